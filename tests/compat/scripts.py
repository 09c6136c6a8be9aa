"""Random scripts for the differential tests: calls of commands, Lua values as replies, the
libraries.

A script's reply must be a function of the keyspace and of its text. So what comes in an order of
its own (the fields of a hash, the keys of a table) is not asked for, and an error of a library is
raised by a call that is not the script's last (see `script`).
"""
from __future__ import annotations

from tests.compat import generators_bits, generators_lists, generators_strings, generators_zsets
from tests.compat.words import key, text, value

GROUPS = [generators_strings, generators_lists, generators_zsets, generators_bits]
# Those of a table's or a random order; those that redis 7.0 does not let scripts call; those that
# answer fractions, of which 7.0 gives more digits; and those that look at their arguments before
# the key, as Redis 8.
LEFT_OUT = {"LCS", "ZRANDMEMBER", "ZSCAN", "COMMAND", "BLPOP", "BRPOP", "BLMOVE", "BRPOPLPUSH",
            "BLMPOP",
            "BZPOPMIN", "BZPOPMAX", "BZMPOP", "ZSCORE", "ZMSCORE", "ZINCRBY", "ZPOPMIN", "ZPOPMAX",
            "ZMPOP", "BITCOUNT", "BITPOS"}
FRACTIONS = {"WITHSCORES", "WITHSCORE", "INCR"}
LITERALS = ["0", "1", "-1", "1.5", "-1.5", "2^53", "1e15", "0.1", "'a'", "''", "'a\\r\\nb'",
            "'\\0\\255'",
            "true", "false", "nil", "{ok='fine'}", "{err='ERR no'}", "{ok=1}", "cjson.null"]
FORMATS = ["b", "B", "h", "H", "i", "I", "l", "L", "f", "d", "i3", "I5", "i8"]
PATTERNS = ["%a+", "%d", "(%w)(%w)", "^a", "b$", ".-b", "[^a-c]+", "%s*", "()", "a?b*", "%bxy",
            "%f[%w]%w+",
            "[%a_]", "(a)(b)", ".", "[]x]", "%%", "(.)%1"]


def call(rng) -> tuple[str, list]:
    """An expression that calls a command, with its arguments in ARGV from a place that `%d`
    names."""
    while True:
        argv = rng.choice(GROUPS).command(rng)
        words = {a.upper() if isinstance(a, str) else bytes(a).decode("latin-1").upper()
                 for a in argv if isinstance(a, (str, bytes))}
        if not words & (LEFT_OUT | FRACTIONS) and len(argv) > 1:
            return rng.choice(["redis.call", "redis.call", "redis.pcall"]), list(argv)


def literal(rng, depth: int = 0) -> str:
    if depth < 3 and rng.random() < 0.3:
        return "{" + ",".join(literal(rng, depth + 1) for _ in range(rng.randint(0, 4))) + "}"
    return rng.choice(LITERALS)


def calls(rng) -> tuple[str, list]:
    """Several commands, whose replies are collected."""
    lines, args = ["local t = {}"], []
    for _ in range(rng.randint(1, 4)):
        function, argv = call(rng)
        lines.append(f"t[#t + 1] = {function}(unpack(ARGV, {len(args) + 1}, "
                     f"{len(args) + len(argv)}))")
        args += argv
    return "\n".join(lines + ["return t"]), args


def one_call(rng) -> tuple[str, list]:
    function, argv = call(rng)
    return f"return {function}(unpack(ARGV))", argv


def values(rng) -> tuple[str, list]:
    return f"return {literal(rng)}", []


def json(rng) -> tuple[str, list]:
    if rng.random() < 0.5:
        return f"local s = cjson.encode({literal(rng)}) return s", []
    source = rng.choice(['[1,2.5,"x",null,true]', '{"a":[{}]}', "[", "[1,]", '"\\u00e9"', "nul",
                         '{"a"}', "1e5",
                         "-", "[[[[1]]]]", " [ 1 , 2 ] ", '"abc', "{1:2}", "[1]x", "", "0x1f",
                         '"\\ud83d\\ude00"'])
    return "local v = cjson.decode(ARGV[1]) return v", [source]


def msgpack(rng) -> tuple[str, list]:
    if rng.random() < 0.5:
        return (f"local s = cmsgpack.pack({literal(rng)}) local v = cmsgpack.unpack(s) "
                "return {s, v}"), []
    data = bytes(rng.choice([0x01, 0x91, 0xa3, 0xc0, 0xc3, 0xca, 0xcc, 0xd9, 0xff, 0x80, 0xdc, 0x00,
                             0x61, 0xd1])
                 for _ in range(rng.randint(0, 6)))
    return "local t = {cmsgpack.unpack(ARGV[1])} return t", [data]


def struct(rng) -> tuple[str, list]:
    items = [rng.choice(FORMATS) for _ in range(rng.randint(1, 4))]
    layout = rng.choice(["", "<", ">", "!4", "!8"]) + "".join(items)
    numbers = ",".join(str(rng.choice([0, 1, -1, 100, 127])) for _ in items)
    return (f"local s = struct.pack('{layout}', {numbers}) "
            f"return {{s, struct.size('{layout}'), struct.unpack('{layout}', s)}}"), []


def strings(rng) -> tuple[str, list]:
    subject, pattern = rng.choice(["abc", "hello world", "xaybz", "", "a1b2 c3", "aabb", "[x]",
                                   "a%b"]), rng.choice(PATTERNS)
    operation = rng.choice([
        "{string.find(ARGV[1], ARGV[2])}", "{string.match(ARGV[1], ARGV[2])}",
        "{string.gsub(ARGV[1], ARGV[2], '<%0>')}", "{string.gsub(ARGV[1], ARGV[2], {a = 'A'}, 2)}",
        "{string.find(ARGV[1], ARGV[2], -3)}", "{string.find(ARGV[1], ARGV[2], 2, true)}",
        "{ARGV[1]:rep(3), ARGV[1]:upper(), ARGV[1]:reverse(), #ARGV[1], ARGV[1]:sub(2, -2)}",
        "{ARGV[1]:byte(1, 3)}",
        "{string.format('%5s|%-5s|%q|%d|%.3f', ARGV[1], 'x', ARGV[2], 7, 1 / 3)}"])
    return f"local t = {operation} return t", [subject, pattern]


def errors(rng) -> tuple[str, list]:
    return rng.choice([
        "return foo", "foo = 1", "local a = nil a.b = 1", "local a = 1 + {} return a", "error('x')",
        "error({err = 'MY x'})", "redis.call()", "redis.call({})", "redis.call('nosuch')",
        "redis.call('get')", "redis.call('multi')", "return redis.error_reply('MY x')",
        "return redis.status_reply('fine')", "redis.log(9, 'x')", "redis.setresp(5)",
        "local ok, e = pcall(function() error('x') end) return {tostring(ok), e}",
        "local ok, e = pcall(redis.call, 'get') return {tostring(ok), e}",
        "table.insert(redis, 1)", "rawset(_G, 'a', 1)", "string.rep = 1",
        "return {redis.sha1hex('abc')}",
        "syntax error", "return (", "return 1 1", "\n\nerror('third line')",
        "return tostring(redis.pcall('get').err)",
        "redis.call('set', KEYS[1], 'v') error('after a write')",
    ]), []


KINDS = [calls, calls, calls, one_call, one_call, values, json, msgpack, struct, strings, errors]


def script(rng) -> tuple:
    """EVAL of a random script. A call that may raise a Lua error with a place in its text is never
    the script's last: a call in tail position has no place here (crdtredis/lua/replies.pxi)."""
    body, args = rng.choice(KINDS)(rng)
    if rng.random() < 0.3:
        body = "redis.setresp(3) " + body
    keys = [key(rng) for _ in range(rng.randint(1, 2))]
    name = "EVAL_RO" if rng.random() < 0.1 else "EVAL"
    return (name, body, len(keys), *keys, *(args or [value(rng), text(rng)]))
