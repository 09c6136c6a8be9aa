"""Scripts that loop, recurse, allocate or catch everything: each ends when it is to end, and the VM
goes on to serve. That a script ends at all is the assertion; a hang is the test's time limit.

HOSTILE_SCRIPTS is how many generated ones are run here, and a tenth of it under the loop
(tests/engine/test_scripts.py)."""
import os
import random

import pytest

from crdtredis._lua import Scripts
from tests.commands.run import Client, exchange
from tests.lua import generated

# They end only because tick() says so, at its first call.
ENDLESS = """
while true do end
while 1 do pcall(function() while true do end end) end
while 1 do redis.call('ping') end
while 1 do redis.pcall('ping') end
while 1 do xpcall(function() while 1 do end end, function() while 1 do end end) end
local function h() return xpcall(function() error('x') end, h) end
  while 1 do xpcall(function() while 1 do end end, h) end
while 1 do coroutine.resume(coroutine.create(function() while 1 do end end)) end
local w = coroutine.wrap(function() while 1 do coroutine.yield() end end) while 1 do w() end
while 1 do pcall(coroutine.wrap(function() while 1 do end end)) end
local function f() pcall(string.gsub, 'a', 'a', f) return '' end while 1 do f() end
local function f() pcall(f) return 1 + f() end while 1 do pcall(f) end
local t = setmetatable({}, {__tostring = function(x) return string.format('%s', x)
  end}) while 1 do pcall(tostring, t) end
while 1 do pcall(table.sort, {3, 2, 1, 5, 4}, function() return true end) end
while 1 do pcall(string.rep, 'x', 4e7) end
local s = 'x' while 1 do pcall(function() s = s .. s end) end
local t = {} while 1 do pcall(function() while 1 do t[#t + 1] = {} end end) end
return string.find(string.rep('a', 30000), '.-.-.-.-.-b')
return string.gsub(string.rep('a', 30000), '.-.-.-.-.-b', '')
for x in string.gmatch(string.rep('a', 30000), '.-.-.-.-.-b') do end
while 1 do for x in string.gmatch('abc', '') do end end
table.insert({}, -1e9, 1)
while 1 do loadstring(string.rep('a = 1 ', 1e4)) end
while 1 do load(function() while 1 do end end) end
while 1 do load(function() return 'x = 1 ' end) end
while 1 do collectgarbage() end
while 1 do redis.sha1hex(string.rep('x', 1e6)) end
while 1 do redis.log(3, string.rep('x', 1e5)) end
repeat until false
::a:: goto a
for i = 1, math.huge do end
for k in function() return 1 end do end
setmetatable({}, {__index = function(t, k) return t[k] end}).x = function() end
  local t = setmetatable({}, {}) while 1 do t = t end
local a = {} for i = 1, 100 do a[i] = a end while 1 do pcall(cjson.encode, a) end
local a = {} for i = 1, 100 do a[i] = a end while 1 do pcall(cmsgpack.pack, a) end
""".strip().replace("\n  ", " ").splitlines()     # indented: the line before goes on

# They end by themselves, with an error or a value.
FINITE = """
local function f() local co = coroutine.wrap(f) co() end f()
local function f() local co = coroutine.create(f) return coroutine.resume(co) end f()
local function f() return (string.gsub('a', 'a', f)) end f()
local function f(a, b) table.sort({1, 2, 3}, f) return a < b end f(1, 2)
local function f() return 1 + f() end f()
local mt = {} mt.__concat = function(a, b) return a .. b end return setmetatable({}, mt) .. 'x'
local mt = {} mt.__lt = function(a, b) return a < b end table.sort({setmetatable({}, mt),
  setmetatable({}, mt)})
return string.rep('x', 1e9)
local s = 'x' while 1 do s = s .. s end
local t = {} while 1 do t[#t + 1] = {} end
return string.gsub(string.rep('a', 1e5), 'a', string.rep('b', 1e4))
return string.find(string.rep('a', 2e6), string.rep('a', 1e6) .. 'b', 1, true)
return string.find(string.rep('x', 1e5), string.rep('x?', 1000))
return string.find('(', string.rep('(', 40))
return {unpack({}, 1, 1e8)}
return unpack({}, -2147483648, 2147483647)
return loadstring(string.rep('(', 1e5))
return loadstring('return ' .. string.rep('{', 1e5))
return load(function() return 'x ' end)
cjson.encode_max_depth(1e9) local a = {} a[1] = a return cjson.encode(a)
cjson.decode_max_depth(1e9) return cjson.decode(string.rep('[', 1e6))
return cmsgpack.unpack(string.rep('\\145', 1e6))
return cmsgpack.unpack('\\221\\255\\255\\255\\255')
return struct.unpack('i', 'abcd', 2^53)
return struct.unpack('c0', 'abcd', -2^53)
return struct.pack(string.rep('x', 1e6))
return string.byte(string.rep('x', 1e6), 1, -1)
error(setmetatable({}, {__newindex = function() while 1 do end end,
  __index = function() while 1 do end end}))
return setmetatable({}, {__index = function() while 1 do end end})
local t = {} while 1 do local co = coroutine.create(function() coroutine.yield()
  end) coroutine.resume(co) t[#t + 1] = co end
coroutine.yield()
string.gsub('a', 'a', coroutine.yield)
return redis.call(unpack({}, 1, 7000))
local a = {} for i = 1, 100 do a[i] = a end return a
""".strip().replace("\n  ", " ").splitlines()     # indented: the line before goes on


def check_alive(vm):
    assert vm.run(vm.load(b"return 'alive' .. #string.rep('x', 10)")) == b"$7\r\nalive10\r\n"


@pytest.mark.parametrize("text", ENDLESS)
def test_a_script_that_is_to_end_ends_whatever_it_catches(text):
    vm = Scripts(call=lambda argv, resp: b"+PONG\r\n", tick=lambda: True, most=16 << 20,
                 patience=30)
    reply = vm.run(vm.load(text.encode()))
    # one that fills its memory may be out of it first
    assert reply.startswith((b"-ERR Script killed by user with SCRIPT KILL. script: ",
                             b"-ERR not enough memory script: "))
    check_alive(vm)


@pytest.mark.parametrize("text", FINITE)
def test_a_script_that_goes_too_far_is_stopped(text):
    vm = Scripts(call=lambda argv, resp: b"+PONG\r\n", most=16 << 20)
    try:
        vm.run(vm.load(text.encode()))
    except ValueError:
        pass
    check_alive(vm)
    assert vm.memory < 16 << 20


def test_memory_is_given_back():
    vm = Scripts(most=64 << 20)
    before = vm.memory
    script = vm.load(b"local t = {} for i = 1, 1e5 do t[i] = {i} end return #t")
    for _ in range(5):
        assert vm.run(script) == b":100000\r\n"
    assert vm.memory < before + (1 << 20)


def test_many_scripts_do_not_leak():
    vm = Scripts(call=lambda argv, resp: b":1\r\n")
    for i in range(2000):
        script = vm.load(b"return redis.call('incr', KEYS[1]) + %d" % i)
        vm.run(script, keys=[b"x"])
        vm.drop(script)
    assert vm.memory < 1 << 20


def test_tick_that_says_no_lets_a_script_go_on():
    asked = []
    vm = Scripts(tick=lambda: asked.append(1))
    assert (vm.run(vm.load(b"local n = 0 for i = 1, 3e6 do n = n + 1 end return n"))
            == b":3000000\r\n")
    assert asked


def test_notes_of_a_script():
    vm = Scripts()
    vm.run(vm.load(b"redis.log(redis.LOG_WARNING, 'a', 1, {}, 'b')"))
    assert vm.notes == [(3, b"a 1 b")]


# 9 MB of work for the compiler, which no hook interrupts: it walks lists again for each part.
SLOW = {
    "goto": "local function f() %s ::x:: end " % ("do goto x end " * 30000) * 9,
    "or": ("x = (" + "or ".join(["a "] * 8000) + ") ") * 95,
}


@pytest.mark.parametrize("text", SLOW.values(), ids=SLOW)
def test_a_script_that_takes_long_to_compile_is_refused(text):
    vm = Scripts()
    with pytest.raises(ValueError, match="it takes too long to compile"):
        vm.load(text.encode())
    check_alive(vm)


@pytest.mark.parametrize("text", SLOW.values(), ids=SLOW)
def test_a_script_that_compiles_for_long_can_be_ended(text):
    vm = Scripts(tick=lambda: True, patience=30)
    reply = vm.run(vm.load(b"return loadstring(ARGV[1])"), args=[text.encode()])
    assert reply.startswith(b"-ERR Script killed by user with SCRIPT KILL. script: ")
    check_alive(vm)


def test_texts_of_any_length_compile_in_pieces():
    vm = Scripts()
    for n in (*range(4090, 4104), 8192, 12288, 100_000):
        text = b"return %d --" % n + b"x" * n
        for cut in (text, text[:n]):
            assert vm.run(vm.load(cut)) == b":%d\r\n" % n
            assert vm.run(vm.load(b"return loadstring(ARGV[1])()"), args=[cut]) == b":%d\r\n" % n
    assert b"[string \"x (\"]:1: " in vm.run(vm.load(b"return select(2, loadstring('x ('))"))
    assert b"name:1: " in vm.run(vm.load(b"return select(2, load('x (', '@name'))"))


def test_a_string_that_stands_in_many_places_of_a_reply():
    vm = Scripts(most=16 << 20)
    text = b"local s, t = string.rep('x', 1e6), {} for i = 1, %d do t[i] = s end return t"
    assert len(vm.run(vm.load(text % 15))) > 15_000_000
    assert vm.run(vm.load(text % 100)).startswith(b"-ERR the reply is too large")
    check_alive(vm)


def test_generated_scripts_end_and_leave_the_sandbox_as_it_was():
    """Their commands are real ones. Whatever a script does, what all scripts share stays as it is,
    and its writes are ops that another replica takes."""
    c, other = Client(), Client("b")
    vm = Scripts(call=generated.calling(c), tick=lambda: True, most=16 << 20, patience=60_000)
    shared = vm.load(generated.SHARED)
    before = vm.run(shared)
    assert b"redis.call=function" in before and b"xxxY" in before
    ended = {"killed": 0, "failed": 0, "answered": 0}
    for seed in range(int(os.environ.get("HOSTILE_SCRIPTS", "1000"))):
        text = generated.script(random.Random(seed))
        script = vm.load(text.encode())
        vm.patience = 2
        reply = vm.run(script, keys=[b"k"], args=[b"a"])
        vm.drop(script)
        ended["killed" if b"Script killed by user" in reply else
              "failed" if reply.startswith(b"-") else "answered"] += 1
        vm.patience = 60_000
        assert vm.run(shared) == before, text
        assert vm.memory < 16 << 20
        c("RESET")
        if seed % 100 == 99:
            c.replica.check()
            exchange(c, other)
            assert c.replica.digest() == other.replica.digest()
    assert min(ended.values()) > 50, ended
