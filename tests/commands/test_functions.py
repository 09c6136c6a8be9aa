"""FUNCTION and FCALL: libraries, what their functions may do, and that libraries are replicated
data."""
import pytest

from tests.commands import payloads
from tests.commands.run import NOW, Client, exchange

ADD = "redis.register_function('%s', function(keys, args) return %s end)"


def library(name: str, *functions: str, returns: str = "1") -> str:
    return f"#!lua name={name}\n" + "\n".join(ADD % (f, returns) for f in functions)


@pytest.fixture
def c():
    return Client()


def names(c) -> dict:
    rows = [dict(zip(r[::2], r[1::2])) for r in c("FUNCTION", "LIST")]
    return {r[b"library_name"]: sorted(dict(zip(f[::2], f[1::2]))[b"name"] for f in r[b"functions"])
            for r in rows}


def test_a_function_is_called_with_keys_and_arguments(c):
    text = library("lib", "f", returns="{keys[1], args[1], #keys, #args}")
    assert c("FUNCTION", "LOAD", text) == b"lib"
    assert c("FCALL", "f", 1, "k", "a", "b") == [b"k", b"a", 1, 2]
    assert c("FCALL", "F", 1, "k", "a") == [b"k", b"a", 1, 1]   # in any case
    assert c.error("FCALL", "g", 0) == "ERR Function not found"
    assert c.error("FCALL", "f", "x") == "ERR Bad number of keys provided"
    assert c.error("FCALL", "f", 1) == "ERR Number of keys can't be greater than number of args"
    assert c.error("FCALL", "f", -1) == "ERR Number of keys can't be negative"


def test_what_a_library_shares_stays_when_another_is_loaded(c):
    c("FUNCTION", "LOAD", "#!lua name=count\nlocal n = 0\n"
      "redis.register_function('count', function() n = n + 1; return n end)")
    assert [c("FCALL", "count", 0) for _ in range(3)] == [1, 2, 3]
    c("FUNCTION", "LOAD", library("other", "f"))
    c("FUNCTION", "DELETE", "other")
    assert c("FCALL", "count", 0) == 4
    d = Client("b")
    exchange(c, d)
    assert d("FCALL", "count", 0) == 1                  # what a VM holds is its own replica's


def test_flags_and_read_only_calls(c):
    c("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function{function_name='get', "
      "callback=function(keys) return redis.call('GET', keys[1]) end, flags={'no-writes'}, "
      "description='reads'}\nredis.register_function('set', function(keys, args) return "
      "redis.call('SET', keys[1], args[1]) end)\nredis.register_function{function_name='lies', "
      "callback=function(keys) return redis.call('SET', keys[1], 1) end, flags={'no-writes'}}")
    assert c("FCALL", "set", 1, "k", "v") == b"OK" and c("FCALL_RO", "get", 1, "k") == b"v"
    assert "write flag using *_ro" in c.error("FCALL_RO", "set", 1, "k", "v")
    assert "not allowed from read-only scripts" in c.error("FCALL", "lies", 1, "k")
    rows = c("FUNCTION", "LIST", "LIBRARYNAME", "L*", "WITHCODE")
    assert rows[0][-2] == b"library_code" and b"description='reads'" in rows[0][-1]
    assert c("FUNCTION", "LIST", "LIBRARYNAME", "x*") == []


@pytest.mark.parametrize("text, error", [
    ("return 1", "ERR Missing library metadata"),
    ("#!lua name=x", "ERR Invalid library metadata"),
    ("#!lua\nreturn 1", "ERR Library name was not given"),
    ("#!lua name=a name=b\nreturn 1",
     "ERR Invalid metadata value, name argument was given multiple times"),
    ("#!lua name=a x=b\nreturn 1", "ERR Invalid metadata value given: x=b"),
    ("#!lua name=a-b\nreturn 1", "ERR Library names can only contain letters, numbers, or "
     "underscores(_) and must be at least one character long"),
    ('#!lua name="a\nreturn 1', "ERR Invalid library metadata"),
    ("#!js name=a\nreturn 1", "ERR Engine 'js' not found"),
    ("#! name=a\nreturn 1", "ERR Engine '' not found"),
    ("#!lua name=a\nreturn 1", "ERR No functions registered"),
    ("#!lua name=a\nx(", "ERR Error compiling function: user_function:2: unexpected symbol near "
     "'<eof>'"),
    ("#!lua name=a\nredis.register_function('f-g', function() end)",
     "ERR Error registering functions: Library names can only contain letters, numbers, or "
     "underscores(_) and must be at least one character long"),
    ("#!lua name=a\nredis.register_function('f')", "ERR Error registering functions: calling "
     "redis.register_function with a single argument is only applicable to Lua table "
     "(representing named arguments)."),
    ("#!lua name=a\nwhile true do end", "ERR FUNCTION LOAD timeout"),
    ("#!lua name=a\nwhile true do pcall(function() while true do end end) end",
     "ERR Error registering functions: user_function:2: Script attempted to access nonexistent "
     "global variable 'pcall'"),
])
def test_libraries_that_are_refused_leave_nothing(c, text, error):
    c("FUNCTION", "LOAD", library("good", "f"))
    digest, used = c("CRDT.DIGEST"), c.executor.functions.stats()
    assert c.error("FUNCTION", "LOAD", text) == error
    assert c("CRDT.DIGEST") == digest
    assert c.executor.functions.stats()["functions"] == used["functions"]
    assert c("FCALL", "f", 0) == 1


def test_quotes_in_metadata(c):
    assert c("FUNCTION", "LOAD", '#!lua name="\\x6cib"\n' + ADD % ("f", 1)) == b"lib"
    assert c("FUNCTION", "LOAD", "#!LUA name='two'\n" + ADD % ("g", 2)) == b"two"


def test_replace_and_what_exists(c):
    c("FUNCTION", "LOAD", library("a", "f", "g"))
    assert c.error("FUNCTION", "LOAD", library("a", "h")) == "ERR Library 'a' already exists"
    assert c.error("FUNCTION", "LOAD", library("b", "h", "F")) == "ERR Function f already exists"
    assert c("FUNCTION", "LOAD", "REPLACE", library("a", "h")) == b"a"
    assert names(c) == {b"a": [b"h"]} and c.error("FCALL", "f", 0) == "ERR Function not found"
    assert c.error("FUNCTION", "LOAD", "TWICE", library("a", "h")) == (
        "ERR Unknown option given: TWICE")
    c("FUNCTION", "LOAD", library("b", "f"))
    # what cannot replace leaves what there is
    assert c.error("FUNCTION", "LOAD", "REPLACE", library("a", "f")) == (
        "ERR Function f already exists")
    assert c("FCALL", "h", 0) == 1 and c("FCALL", "f", 0) == 1


def test_dump_and_restore(c):
    c("FUNCTION", "LOAD", library("a", "f"))
    c("FUNCTION", "LOAD", library("b", "g"))
    dump = c("FUNCTION", "DUMP")
    assert c.error("FUNCTION", "RESTORE", dump) == "ERR Library a already exists"
    assert c("FUNCTION", "DELETE", "a") == b"OK"
    assert c.error("FUNCTION", "RESTORE", dump) == "ERR Library b already exists"
    assert names(c) == {b"b": [b"g"]}                   # all or nothing
    assert c("FUNCTION", "RESTORE", dump, "REPLACE") == b"OK"
    assert names(c) == {b"a": [b"f"], b"b": [b"g"]}
    c("FUNCTION", "LOAD", library("z", "x"))
    assert c("FUNCTION", "RESTORE", dump, "FLUSH") == b"OK"
    assert names(c) == {b"a": [b"f"], b"b": [b"g"]} and c("FCALL", "g", 0) == 1
    for i in range(len(dump)):
        spoilt = dump[:i] + bytes([dump[i] ^ 1]) + dump[i + 1:]
        assert c.error("FUNCTION", "RESTORE", spoilt, "REPLACE") == (
            "ERR DUMP payload version or checksum are wrong")
    assert c.error("FUNCTION", "RESTORE", dump[:5]).startswith("ERR DUMP payload")
    assert c.error("FUNCTION", "RESTORE", dump, "X").startswith("ERR Wrong restore policy")
    assert c.error("FUNCTION", "RESTORE", c("DUMP", "k") or b"").startswith("ERR DUMP payload")
    c("SET", "k", "v")
    assert c.error("FUNCTION", "RESTORE", c("DUMP", "k")) == "ERR given type is not a function"


def test_libraries_are_replicated_and_the_later_holds():
    a, b = Client("a"), Client("b")
    a("FUNCTION", "LOAD", library("lib", "f", returns="'a'"))
    b.now = NOW + 5
    b("FUNCTION", "LOAD", library("lib", "f", returns="'b'"))
    assert (a("FCALL", "f", 0), b("FCALL", "f", 0)) == (b"a", b"b")
    exchange(a, b)
    assert a("FCALL", "f", 0) == b("FCALL", "f", 0) == b"b"
    assert a("CRDT.DIGEST") == b("CRDT.DIGEST")
    a("FUNCTION", "DELETE", "lib")
    b("FUNCTION", "LOAD", "REPLACE", library("lib", "f", returns="'again'"))
    exchange(a, b)
    assert a("FCALL", "f", 0) == b("FCALL", "f", 0) == b"again"
    a("FUNCTION", "FLUSH")
    b("FUNCTION", "LOAD", library("new", "g"))
    exchange(a, b)
    assert names(a) == names(b) == {b"new": [b"g"]}


def test_a_name_in_two_libraries_means_the_same_everywhere():
    a, b = Client("a"), Client("b")
    a("FUNCTION", "LOAD", library("x", "f", returns="'x'"))
    b("FUNCTION", "LOAD", library("w", "f", returns="'w'"))
    exchange(a, b)
    assert a("FCALL", "f", 0) == b("FCALL", "f", 0) == b"w"
    assert names(a) == names(b) == {b"x": [b"f"], b"w": [b"f"]}
    b("FUNCTION", "DELETE", "w")
    exchange(a, b)
    assert a("FCALL", "f", 0) == b("FCALL", "f", 0) == b"x"


def test_a_library_that_this_replica_cannot_load_harms_no_other():
    a, b = Client("a"), Client("b")
    a("FUNCTION", "LOAD", library("good", "f"))
    for name, text in ((b"bad", b"x("), (b"other", library("name", "g").encode()), (b"n", b"")):
        a.replica.system_set(b"functions", {name: text})
    exchange(a, b)
    for c in (a, b):
        assert names(c) == {b"good": [b"f"]} and c("FCALL", "f", 0) == 1
        assert c("FUNCTION", "STATS")[-1][-1] == [b"libraries_count", 1, b"functions_count", 1]
    assert a.error("FUNCTION", "LOAD", library("bad", "g")) == "ERR Library 'bad' already exists"
    assert a("FUNCTION", "LOAD", "REPLACE", library("bad", "g")) == b"bad"
    exchange(a, b)
    assert b("FCALL", "g", 0) == 1
    b("FUNCTION", "FLUSH")
    assert b.replica.system_hash(b"functions") == {}


def test_no_key_and_not_flushed_with_keys(c):
    c("FUNCTION", "LOAD", library("lib", "f"))
    assert c("DBSIZE") == 0 and c("KEYS", "*") == []
    c("FLUSHALL")
    assert c("FCALL", "f", 0) == 1


def test_one_call_is_one_op():
    a, b = Client("a"), Client("b")
    a("FUNCTION", "LOAD", library("lib", "f", returns="{redis.call('SET', 'a', 1), "
                                  "redis.call('SET', 'b', 1)}"))
    exchange(a, b)
    before = a("CRDT.CLOCK")
    a("FCALL", "f", 0)
    after = a("CRDT.CLOCK")
    assert after[1] == before[1] + 1
    exchange(a, b)
    assert b("MGET", "a", "b") == [b"1", b"1"]


def test_in_transactions_and_not_in_scripts(c):
    c("MULTI")
    c("FUNCTION", "LOAD", library("lib", "f"))
    c("FCALL", "f", 0)
    assert c("EXEC") == [b"lib", 1]
    assert "not allowed from script" in c.error("EVAL", "return redis.call('FCALL', 'f', 0)", 0)
    assert "not allowed from script" in c.error(
        "EVAL", "return redis.call('FUNCTION', 'FLUSH')", 0)


def test_bounds(c):
    c.executor.script_memory = 8 << 20
    many = "#!lua name=many\n" + "for i = 1, 1e9 do redis.register_function('f' .. i, " \
        "function() end) end"
    assert "too many functions in the library" in c.error("FUNCTION", "LOAD", many)
    assert c.executor.functions.stats()["functions"] == 0
    assert c.error("FUNCTION", "LOAD", "#!lua name=long\n" + "-" * (4 << 20)) == (
        "ERR library is too long")
    assert c.error("FUNCTION", "LOAD", "#!lua name=" + "n" * 513 + "\nreturn").startswith(
        "ERR Library names")
    big = "#!lua name=big\nlocal t = {}\nwhile true do t[#t + 1] = {t} end"
    assert c.error("FUNCTION", "LOAD", big) == "ERR Error registering functions: not enough memory"
    c("FUNCTION", "LOAD", library("lib", "f"))
    assert c("FCALL", "f", 0) == 1


def test_errors_name_the_function(c):
    c("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('fails', function()\n"
      "error('no') end)\nredis.register_function('calls', function() "
      "return redis.call('GET') end)")
    assert c.error("FCALL", "fails", 0) == (
        "ERR user_function:3: no script: fails, on @user_function:3.")
    assert "script: calls" in c.error("FCALL", "calls", 0)


@pytest.mark.parametrize("filler", ["{}", "function() return t end", "('x'):rep(1000 + i)"])
def test_a_library_that_fills_the_memory_leaves_the_others_as_they_were(filler):
    c = Client()
    c.executor.script_memory = 2 << 20
    c("FUNCTION", "LOAD", library("good", "f", returns="tostring(pcall ~= nil)"))
    # what it has registered holds the memory until the load has failed
    text = ("#!lua name=evil\nlocal t, i = {}, 0\nredis.register_function('a', function() return t "
            f"end)\nwhile true do i = i + 1 t = {{t, {filler}}} end")
    assert c.error("FUNCTION", "LOAD", text) == "ERR Error registering functions: not enough memory"
    assert c("FCALL", "f", 0) == b"true"
    assert c.executor.functions.stats()["vm_bytes"] < 1 << 20


def test_libraries_of_a_peer_that_take_long_stop_this_replica_for_a_while_only():
    a, b = Client("a"), Client("b")
    a("FUNCTION", "LOAD", library("zz", "f"))
    loops = {b"l%d" % i: b"#!lua name=l%d\nwhile true do end" % i for i in range(9)}
    a.replica.system_set(b"functions", loops)
    exchange(a, b)
    told = 0
    while b.raw("FCALL", "f", 0) == b"-BUSY libraries are being compiled; try again\r\n":
        told += 1
        assert told < 9
    assert told and b("FCALL", "f", 0) == 1 and names(b) == {b"zz": [b"f"]}


def test_a_dump_of_libraries_that_take_long_is_refused_whole(c):
    c("FUNCTION", "LOAD", library("good", "f"))
    texts = [b"#!lua name=l%d\nredis.register_function('f%d', redis.log)\n" % (i, i)
             + b"for i = 1, 1e7 do end" for i in range(100)]
    dump = payloads.seal(b"".join(b"\xf5" + payloads.text(t) for t in texts))
    assert c.error("FUNCTION", "RESTORE", dump) == "ERR FUNCTION LOAD timeout"
    assert names(c) == {b"good": [b"f"]}
