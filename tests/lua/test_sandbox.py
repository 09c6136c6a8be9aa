"""What a script can reach, and that it cannot change what others share."""
import pytest

READ_ONLY = "Attempt to modify a readonly table"

NAMES = """
ARGV KEYS _G _VERSION assert bit cjson cmsgpack collectgarbage coroutine error gcinfo getmetatable
ipairs load loadstring math next os pairs pcall rawequal rawget rawset redis select setmetatable
string struct table tonumber tostring type unpack xpcall
""".split()


def test_globals_are_those_of_redis(run):
    reply = run("local t = {} for k in pairs(_G) do t[#t + 1] = k end table.sort(t) "
                "return table.concat(t, ' ')")
    assert reply.split(b"\r\n")[1].decode().split() == sorted(NAMES)


@pytest.mark.parametrize("library, names", [
    ("string",
     "byte char dump find format gfind gmatch gsub len lower match rep reverse sub upper"),
    ("table", "concat foreach foreachi getn insert maxn remove setn sort"),
    ("coroutine", "create resume running status wrap yield"), ("os", "clock"),
    ("bit", "arshift band bnot bor bswap bxor lshift rol ror rshift tobit tohex"),
    ("struct", "pack size unpack"),
])
def test_libraries_hold_what_those_of_redis_hold(run, library, names):
    reply = run(f"local t = {{}} for k in pairs({library}) do t[#t + 1] = k end table.sort(t) "
                "return table.concat(t, ' ')")
    assert reply.split(b"\r\n")[1].decode() == names


@pytest.mark.parametrize("text", [
    "a = 1", "_G.a = 1", "_G = {}", "redis = 1", "KEYS = 1", "redis.call = 1", "cjson.encode = 1",
    "string.rep = nil", "getmetatable('').__index = nil", "getmetatable(_G).__index = {}",
    "setmetatable(_G, {})", "setmetatable(redis, {})", "rawset(_G, 'a', 1)",
    "rawset(string, 'rep', 1)",
    "table.insert(redis, 1)", "table.remove(redis)", "table.sort(redis)",
    "local f, s = pairs(redis) rawset(s, 'call', 1)", "getmetatable('').__index.rep = 1",
    "rawset(getmetatable(''), '__index', 1)", "os.clock = 1", "bit.band = 1", "math.pi = 3",
])
def test_what_is_shared_cannot_be_changed(run, text):
    assert READ_ONLY.encode() in run(text)
    assert run("return {type(redis.call), type(string.rep), ('x'):rep(2), "
               "type(rawget(_G, 'a'))}") == (
        b"*4\r\n$8\r\nfunction\r\n$8\r\nfunction\r\n$2\r\nxx\r\n$3\r\nnil\r\n")


@pytest.mark.parametrize("name", [
    "foo", "print", "loadfile", "dofile", "io", "debug", "package", "require", "module", "jit",
    "ffi",
    "getfenv", "setfenv", "newproxy",
])
def test_what_is_left_out(run, name):
    assert (f"Script attempted to access nonexistent global variable '{name}'".encode()
            in run(f"return {name}"))


def test_protection_holds_inside_loaded_code_and_coroutines(run):
    assert READ_ONLY.encode() in run("loadstring('a = 1')()")
    assert READ_ONLY.encode() in run("local ok, e = coroutine.resume(coroutine.create(function() "
                                     "a = 1 end)) return e")


def test_nothing_of_a_script_is_left_for_the_next(run):
    run("KEYS.x = 1 ARGV.y = 2 local t = setmetatable({}, {__index = KEYS})")
    assert run("return {tostring(KEYS.x), tostring(ARGV.y)}") == b"*2\r\n$3\r\nnil\r\n$3\r\nnil\r\n"


def test_bytecode_is_refused(run):
    assert b"attempt to call a nil value" in run(
        "return loadstring(string.dump(function() return 1 end))()")
    assert b"attempt to call a nil value" in run(
        "return load(function() return '\\27LJ' end)()")
    assert run(b"\x1bLJ\x02") == "attempt to load chunk with wrong mode"


@pytest.mark.parametrize("text", [
    "1LL + 1", "(1LL).x", "(1LL)()", "1LL < 2LL", "1LL .. ''", "#1LL", "cjson.encode(1LL)",
    "redis.call('x', 1LL)",
])
def test_numbers_of_the_foreign_function_interface_are_inert(run, text):
    assert run(f"local r = {text} return r").startswith(b"-ERR")
    assert run("return tostring(getmetatable(1LL))") == b"$5\r\nfalse\r\n"


def test_pcall_answers_the_text_of_an_error_table(value):
    assert value("select(2, pcall(function() error({err = 'MY x'}) end))") == "MY x"
    assert value("type(select(2, pcall(function() error({}) end)))") == "table"
    assert value("select(2, xpcall(function() error('x', 0) end, function(e) return 'H' .. e end))"
                 ) == "Hx"


def test_collectgarbage_cannot_stop_the_collector(value):
    assert value("collectgarbage('stop')") == "0"
    assert value("collectgarbage('count') > 1 and gcinfo() > 1") == "true"
    assert "invalid option" in value("collectgarbage('generational')")


def test_numbers_are_shown_as_lua_5_1_shows_them(value):
    assert value("tostring(1e15) .. ' ' .. 123456789012345678 .. ' ' .. 0.1 .. ' ' .. 1/0") == (
        "1e+15 1.2345678901235e+17 0.1 inf")
