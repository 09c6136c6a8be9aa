"""Lua scripts made at random: they loop, recurse, allocate, throw, call commands and libraries with
whatever is at hand, and try to leave the sandbox or to change what other scripts see.

Whatever has `choice`, `randint` and `random` chooses: random.Random, or Dice, which a fuzzer fills
with its bytes.
"""
from __future__ import annotations

DEEPEST = 4
NUMBERS = ["0", "1", "2", "-1", "3.5", "1e4", "2^31", "-2^31", "2^53", "1e300", "0/0", "1/0",
           "math.huge", "65", "7", "1LL"]
TEXTS = ["''", "'a'", "'%s'", "'%5.2f%q'", "'(.-)%1'", "'[%a'", "'\\0\\255'", "'\\27Lua'", "'x=1'",
         "'err'", "'__index'", "'123'", "'>I4i3c0'", "'{\"a\":[1,{}]}'", "'\\221\\0\\0\\0\\9'",
         "string.rep('ab', 3e5)", "string.rep('[', 3000)", "KEYS[1]", "ARGV[1]"]
VALUES = ["nil", "true", "false", "{}", "{1, 2, 3}", "{a = {}}", "{err = 'E x'}", "{ok = 'fine'}",
          "cjson.null", "_G", "string", "redis", "KEYS", "ARGV", "coroutine.running()", "print",
          "function() end", "function(...) return ... end", "error", "pcall", "string.gsub"]
CALLED = """
string.rep string.format string.find string.gsub string.gmatch string.byte string.char string.sub
string.upper string.reverse string.len string.dump table.concat table.insert table.remove table.sort
table.getn table.maxn table.foreach table.unpack unpack select tostring tonumber type next pairs
ipairs rawget rawset rawequal rawlen setmetatable getmetatable pcall xpcall error assert load
loadstring dofile require getfenv setfenv newproxy collectgarbage gcinfo coroutine.create
coroutine.wrap coroutine.resume coroutine.yield coroutine.status math.floor math.random math.max
math.fmod math.ldexp os.clock os.execute io.open debug.getregistry debug.sethook package.loadlib
bit.band bit.lshift bit.tohex bit.bswap cjson.encode cjson.decode cjson.encode_max_depth
cjson.decode_max_depth cjson.encode_sparse_array cjson.encode_keep_buffer cjson.new cmsgpack.pack
cmsgpack.unpack cmsgpack.unpack_one cmsgpack.unpack_limit struct.pack struct.unpack struct.size
redis.call redis.pcall redis.sha1hex redis.log redis.error_reply redis.status_reply redis.setresp
redis.set_repl redis.replicate_commands redis.breakpoint redis.debug redis.acl_check_cmd
redis.register_function
""".split()
COMMANDS = ["'GET', KEYS[1]", "'SET', KEYS[1], ARGV[1]", "'INCRBYFLOAT', 'n', '0.1'", "'PING'",
            "'EVAL', 'return 1', '0'", "'HSET', 'h', 'f', 'v'", "'HGETALL', 'h'", "'MULTI'",
            "'LPUSH', 'l', 'a', 'b'", "'LRANGE', 'l', '0', '-1'", "'BLPOP', 'l', '0'", "'nosuch'",
            "'SUBSCRIBE', 'c'", "'FLUSHALL'", "'ZADD', 'z', '1', 'm'", "'SCRIPT', 'FLUSH'",
            "'ZRANGE', 'z', '0', '-1', 'WITHSCORES'", "'CONFIG', 'GET', '*'", "'SHUTDOWN'",
            "'SORT', 'l', 'ALPHA'", "'SELECT', '3'", "'WAIT', '1', '0'", "'CLIENT', 'KILL', 'ID'"]
EVENTS = ["__index", "__newindex", "__call", "__tostring", "__gc", "__eq", "__lt", "__le",
          "__concat", "__unm", "__add", "__len", "__mode", "__metatable", "__pairs"]
ATTACKS = """
getmetatable('').__index = {}
getmetatable('').__index = function() return 'taken' end
string.rep = function() return 'taken' end
_G.tostring = nil
redis.call = redis.pcall
KEYS = nil
rawset(_G, 'tostring', nil)
rawset(string, 'rep', nil)
setmetatable(_G, nil)
setmetatable(string, {__index = function() return 1 end})
getmetatable(_G).__newindex = nil
getmetatable(_G).__index.tostring = nil
setfenv(1, {})
setfenv(0, {string = {}})
getfenv(0).tostring = nil
table.insert(redis, 1)
table.remove(string)
table.sort(_G, function() return true end)
table.sort(redis)
for k in pairs(_G) do _G[k] = nil end
for k in pairs(string) do string[k] = nil end
cjson.encode = nil
cjson.null.x = 1
getmetatable(cjson.null).__index = 1
math.pi = 3
ARGV[1] = redis
loadstring('\\27LJ\\2\\0')()
load(string.dump(function() end))()
local f = load(function() return 'return _G ' end) f().x = 1
debug.setmetatable(1, {__index = string})
collectgarbage('stop')
collectgarbage('setpause', 1e9)
coroutine.wrap(function() error(coroutine.running()) end)()
getmetatable(1LL).__index = string
return (1LL).x
string.gsub('x', 'x', setmetatable({}, {__index = function() string.rep = nil end}))
error(setmetatable({}, {__tostring = function() while 1 do end end}))
xpcall(error, function(e) error(e) end)
""".strip().splitlines()


class Dice:
    """Chooses by bytes; when they are used up, always the first."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1] if self.at <= len(self.data) else 0

    def choice(self, among):
        return among[self.byte() % len(among)]

    def randint(self, low: int, high: int) -> int:
        return low + self.byte() % (high - low + 1)

    def random(self) -> float:
        return self.byte() / 256


class Maker:
    def __init__(self, dice):
        self.dice, self.names, self.made = dice, [], 0

    def name(self) -> str:
        return self.dice.choice(self.names) if self.names else "ARGV"

    def value(self, depth: int) -> str:
        pick = self.dice.randint(0, 9 if depth < DEEPEST else 3)
        if pick < 4:
            return self.dice.choice([NUMBERS, TEXTS, VALUES, [self.name()]][pick])
        if pick < 7:
            return self.call(depth + 1)
        if pick == 7:
            sign = self.dice.choice(["+", "*", "%", "^", "..", "==", "<", "and", "or"])
            return f"({self.value(depth + 1)} {sign} {self.value(depth + 1)})"
        if pick == 8:
            return f"({self.name()})[{self.value(depth + 1)}]"
        return self.function(depth + 1)

    def values(self, depth: int, most: int) -> str:
        return ", ".join(self.value(depth) for _ in range(self.dice.randint(0, most)))

    def call(self, depth: int) -> str:
        pick = self.dice.randint(0, 4)
        if pick == 0:
            return f"redis.{self.dice.choice(['call', 'pcall'])}({self.dice.choice(COMMANDS)})"
        if pick == 1:
            return f"{self.name()}({self.values(depth, 2)})"
        if pick == 2:
            return f"pcall({self.dice.choice(CALLED)}, {self.value(depth)})"
        return f"{self.dice.choice(CALLED)}({self.values(depth, 3)})"

    def function(self, depth: int) -> str:
        return f"function(a, ...) {self.block(depth + 1)} return {self.value(depth + 1)} end"

    def object(self, depth: int) -> str:
        events = ", ".join(f"{self.dice.choice(EVENTS)} = "
                           + self.dice.choice([self.value, self.function])(depth + 1)
                           for _ in range(self.dice.randint(1, 3)))
        return f"setmetatable({{}}, {{{events}}})"

    def loop(self, depth: int) -> str:
        head, end = self.dice.choice([
            ("while true do", "end"), ("for i = 1, 1e9 do", "end"), ("for i = 1, 50 do", "end"),
            ("repeat", "until false"), ("for k, v in pairs(a0) do", "end"),
            ("for x in string.gmatch(string.rep('a', 1e4), '.-') do", "end")])
        return f"{head} {self.block(depth + 1)} {end}"

    def statement(self, depth: int) -> str:
        pick = self.dice.randint(0, 9)
        if pick == 0 or depth >= DEEPEST:
            return f"local _ = {self.call(depth)}"
        if pick == 1:
            return f"do {self.dice.choice(ATTACKS)}\nend"
        if pick == 2:
            return f"pcall(function() {self.dice.choice(ATTACKS)}\nend)"
        if pick == 3:
            return self.loop(depth)
        if pick == 4:
            return f"pcall(function() {self.loop(depth)} end)"
        if pick == 5:
            return f"coroutine.wrap(function() {self.block(depth + 1)} end)()"
        if pick == 6:
            name = f"a{self.made}"
            self.made += 1
            self.names.append(name)
            kind = self.dice.choice(["value", "object", "function"])
            if kind == "function":                          # one that may call itself
                return f"local {name} {name} = {self.function(depth)}"
            return f"local {name} = {getattr(self, kind)(depth)}"
        if pick == 7:
            grown = self.dice.choice(["a0[#a0 + 1] = {}", "a0[#a0 + 1] = string.rep('x', #a0)",
                                      "a0 = {a0, a0}", "a0 = tostring(a0) .. tostring(a0)"])
            return f"while a0 do {grown} end"
        if pick == 8:
            return f"{self.name()}[{self.value(depth)}] = {self.value(depth)}"
        return f"xpcall({self.function(depth)}, {self.function(depth)})"

    def block(self, depth: int) -> str:
        names = len(self.names)
        text = "; ".join(self.statement(depth) for _ in range(self.dice.randint(0, 3)))
        del self.names[names:]                              # they end with the block
        return text


def script(dice) -> str:
    maker = Maker(dice)
    maker.names, maker.made = ["a0"], 1
    lines = ["local a0 = {}"]
    for _ in range(dice.randint(1, 5)):
        line = maker.statement(0)
        # mostly what fails does not end the script
        caught = dice.randint(0, 3) and not line.startswith("local a")
        lines.append(f"pcall(function() {line} end)" if caught else line)
    return "\n".join(lines + [f"do return {maker.value(0)} end"])


def calling(client):
    """What a script calls: real commands of a client (tests/commands/run.py), who waits for
    nothing."""
    def call(argv, resp):
        reply = client.raw(*argv)
        client.session.unblock()
        return reply or client.session.take_replies()
    return call


# What all scripts share, as one text: it stays what it is, whatever scripts do.
SHARED = b"""
local out = {}
local function show(name, t)
    for k, v in pairs(t) do
        if k ~= 'KEYS' and k ~= 'ARGV' then
            out[#out + 1] = name .. '.' .. tostring(k) .. '=' .. tostring(v)
        end
    end
end
show('_G', _G)
for _, name in ipairs{'string', 'table', 'math', 'coroutine', 'os', 'bit', 'redis', 'cjson',
                      'cmsgpack', 'struct'} do
    show(name, _G[name])
end
table.sort(out)
out[#out + 1] = string.rep('x', 3) .. ('y'):upper() .. #('abc'):gsub('b', '') .. tostring(1.5)
return table.concat(out, '\\n')
"""
