"""EVAL, EVALSHA and SCRIPT as commands: the cache, the rules of what a script may call, and that a
script is one op."""
import hashlib

import pytest

from tests.commands.run import NOW, Client, exchange


def sha(text: str) -> str:
    return hashlib.sha1(text.encode()).hexdigest()


@pytest.fixture
def c():
    return Client()


def test_keys_and_arguments(c):
    assert c("EVAL", "return redis.call('SET', KEYS[1], ARGV[1])", 1, "k", "v") == b"OK"
    assert c("EVAL", "return {KEYS[1], redis.call('GET', KEYS[1]), #ARGV}", 1, "k") == [
        b"k", b"v", 0]
    assert (c.error("EVAL", "return 1", 2, "k")
            == "ERR Number of keys can't be greater than number of args")
    assert c.error("EVAL", "return 1", -1, "k") == "ERR Number of keys can't be negative"
    assert c.error("EVAL", "return 1", "x") == "ERR value is not an integer or out of range"


def test_the_cache(c):
    text = "return 'loaded'"
    assert c.error("EVALSHA", sha(text), 0) == "NOSCRIPT No matching script. Please use EVAL."
    assert c("SCRIPT", "LOAD", text) == sha(text).encode()
    assert c("EVALSHA", sha(text), 0) == c("EVALSHA", sha(text).upper(), 0) == b"loaded"
    c("EVAL", "return 1 + 1", 0)
    assert c("SCRIPT", "EXISTS", sha("return 1 + 1"), sha(text), "0" * 40, "x", "?" * 40) == [
        1, 1, 0, 0, 0]
    assert c("SCRIPT", "SHOW", sha(text)) == text.encode()
    assert c("SCRIPT", "FLUSH", "ASYNC") == b"OK"
    assert c("SCRIPT", "EXISTS", sha(text)) == [0]
    assert c.error("SCRIPT", "SHOW", sha(text)).startswith("NOSCRIPT ")
    assert c("EVAL", text, 0) == b"loaded"
    for wrong in ("x" * 40, "", "1" * 41, "0" * 39 + "g"):
        assert c.error("EVALSHA", wrong, 0).startswith("NOSCRIPT ")


def test_scripts_of_eval_make_room_for_newer_ones_and_loaded_ones_stay(c):
    c("SCRIPT", "LOAD", "return 'loaded'")
    c("EVAL", "return 'used'", 0)
    for i in range(600):
        c("EVAL", f"return {i}", 0)
        c("EVAL", "return 'used'", 0)
    assert c("SCRIPT", "EXISTS", sha("return 'loaded'"), sha("return 'used'"), sha("return 0"),
             sha("return 599")) == [1, 1, 0, 1]
    assert c("EVALSHA", sha("return 'loaded'"), 0) == b"loaded"
    stats = c.executor.scripts.stats()
    assert stats["scripts"] == 500 and stats["evicted"] == 103


def test_the_texts_of_scripts_take_a_bounded_memory(c):
    c.executor.script_memory = 4 << 20
    rest = "--" + "x" * (1 << 20)
    loaded = c("SCRIPT", "LOAD", "return 1" + rest)
    for i in range(10):
        assert c("EVAL", f"return {i}" + rest, 0) == i
    stats = c.executor.scripts.stats()
    assert stats["text_bytes"] <= 4 << 20 and stats["evicted"] == 7
    assert c("EVALSHA", loaded, 0) == 1
    for i in range(2, 7):                       # from the fourth on at this replica alone
        c("SCRIPT", "LOAD", f"return {i}" + rest)
    full = "ERR the texts of scripts take too much memory; SCRIPT FLUSH removes them"
    assert c.error("SCRIPT", "LOAD", "return 7" + rest) == full
    assert c.error("EVAL", "return 8" + rest, 0) == full
    assert c("EVAL", "return 5", 0) == 5
    assert [c("EVALSHA", sha(f"return {i}" + rest), 0) for i in (4, 5, 6)] == [4, 5, 6]
    assert c.executor.scripts.stats()["text_bytes"] <= 4 << 20
    assert c.error("EVALSHA", loaded, 0).startswith("NOSCRIPT ")    # there is no room for it
    c("SCRIPT", "FLUSH")
    assert c("EVAL", "return 5" + rest, 0) == 5


# ---- at all replicas -----------------------------------------------------------------------------

def test_what_is_loaded_at_one_replica_runs_at_all():
    a, b = Client("a"), Client("b")
    assert a.effects("SCRIPT", "LOAD", "return 'loaded'") == 1
    loaded = sha("return 'loaded'")
    a("SCRIPT", "LOAD", "return 'loaded'")
    assert b("SCRIPT", "EXISTS", loaded) == [0]
    a("EVAL", "return 1", 0)
    a("SCRIPT", "LOAD", "return 2")
    exchange(a, b)
    assert a.effects("SCRIPT", "LOAD", "return 'loaded'") == 0
    assert b.effects("SCRIPT", "LOAD", "return 'loaded'") == 0
    assert b("SCRIPT", "EXISTS", loaded, sha("return 1"), sha("return 2")) == [1, 0, 1]
    assert b("SCRIPT", "SHOW", loaded) == b"return 'loaded'"
    assert b("EVALSHA", loaded, 0) == b("EVALSHA_RO", loaded.upper(), 0) == b"loaded"
    for c in (a, b):
        c("FLUSHALL")
        assert c("EVALSHA", loaded, 0) == b"loaded" and c("DBSIZE") == 0


def test_a_flush_forgets_what_it_observed_everywhere():
    a, b = Client("a"), Client("b")
    one, two, three = (a("SCRIPT", "LOAD", f"return {i}").decode() for i in (1, 2, 3))
    exchange(a, b)
    assert b("EVALSHA", one, 0) == 1
    b("EVAL", "return 'own'", 0)
    four = b("SCRIPT", "LOAD", "return 4").decode()
    for _ in range(2):
        a("SCRIPT", "FLUSH")
        assert a.replica.clock()["a", NOW] == 4         # the second found nothing there
    assert a("SCRIPT", "EXISTS", one, two, three) == [0, 0, 0]
    a("SCRIPT", "LOAD", "return 3")
    assert b("SCRIPT", "EXISTS", one, two, three, four) == [1, 1, 1, 1]
    exchange(a, b)
    for c in (a, b):
        assert c("SCRIPT", "EXISTS", one, two, three, four) == [0, 0, 1, 1]
        assert c("EVALSHA", three, 0) == 3 and c("EVALSHA", four, 0) == 4
        assert c.error("EVALSHA", one, 0).startswith("NOSCRIPT ")
        assert c.error("EVALSHA", two, 0).startswith("NOSCRIPT ")
    assert b("SCRIPT", "EXISTS", sha("return 'own'")) == [1]        # its own cache is untouched
    assert a.replica.digest() == b.replica.digest()


def test_what_is_loaded_outlives_the_process():
    a = Client("a")
    loaded = a("SCRIPT", "LOAD", "return 'loaded'")
    again = Client("a", epoch=NOW + 1)
    again.replica.recovering = True
    again.replica.receive(a.replica.take_ops())
    again.replica.recovering = False
    assert again("EVALSHA", loaded, 0) == b"loaded"


@pytest.mark.parametrize("in_transaction", [False, True])
def test_the_op_of_a_load_is_its_clients(c, in_transaction):
    """So WAIT waits for it."""
    if in_transaction:
        c("MULTI")
    c("SCRIPT", "LOAD", "return 1")
    if in_transaction:
        assert c("EXEC") == [sha("return 1").encode()]
    assert sum(c.replica.clock().values()) == 1


def test_scripts_beyond_what_is_shared_stay_at_their_replica():
    a, b = Client("a"), Client("b")
    for i in range(1002):
        a("SCRIPT", "LOAD", f"return {i}")
    exchange(a, b)
    last = [sha(f"return {i}") for i in (999, 1000, 1001)]
    assert a("SCRIPT", "EXISTS", *last) == [1, 1, 1] and b("SCRIPT", "EXISTS", *last) == [1, 0, 0]
    for i in range(600):
        a("EVAL", f"return {-i}", 0)
    assert [a("EVALSHA", x, 0) for x in last] == [999, 1000, 1001]
    a("SCRIPT", "FLUSH")
    assert a("SCRIPT", "EXISTS", *last) == [0, 0, 0]
    assert a.effects("SCRIPT", "LOAD", "return 1001") == 1          # there is room again


def test_a_text_for_which_there_is_no_room_does_not_keep_out_smaller_ones():
    a, b = Client("a"), Client("b")
    large = "return #'" + "x" * (3 << 20) + "'"
    a("SCRIPT", "LOAD", "--" + large)
    for text in (large, large[:-9] + "'", "return 1"):
        a("SCRIPT", "LOAD", text)
    exchange(a, b)
    assert b("SCRIPT", "EXISTS", sha("--" + large), sha(large), sha("return 1")) == [1, 0, 1]
    assert a("EVALSHA", sha(large), 0) == 3 << 20


def test_a_text_that_is_not_what_its_digest_says_is_no_script(c):
    """A peer may write anything."""
    c.replica.system_set(b"scripts", {sha("return 1").encode(): b"return 2", b"x": b"return 3",
                                      sha("return (").encode(): b"return ("})
    assert c.error("EVALSHA", sha("return 1"), 0).startswith("NOSCRIPT ")
    assert c.error("EVALSHA", sha("return ("), 0).startswith("NOSCRIPT ")
    assert c("SCRIPT", "LOAD", "return 1") == sha("return 1").encode()
    assert c("EVALSHA", sha("return 1"), 0) == 1
    assert c("EVAL", "return 1", 0) == 1


def test_the_name_of_a_text_that_is_anothers_names_none(c):
    name, bad = sha("return 1"), sha("return (")
    c.replica.system_set(b"scripts", {name.encode(): b"return 2", bad.encode(): b"return ("})
    assert c("SCRIPT", "EXISTS", name, name.upper(), name, bad) == [0, 0, 0, 1]
    assert c.error("SCRIPT", "SHOW", name).startswith("NOSCRIPT ")
    assert c("SCRIPT", "SHOW", bad) == b"return ("
    c.replica.system_set(b"scripts", {name.encode(): b"return 1"})
    assert c("SCRIPT", "EXISTS", name) == [1] and c("SCRIPT", "SHOW", name) == b"return 1"
    assert c("EVALSHA", name, 0) == 1


def test_that_a_text_does_not_compile_is_remembered_while_it_is_the_one(c):
    bad, long = "return (", "-" * (4 << 20) + "-"
    c.replica.system_set(b"scripts", {sha(t).encode(): t.encode() for t in (bad, long)})
    for text in (bad, long):
        assert c("SCRIPT", "EXISTS", sha(text)) == [1]
        assert c.error("EVALSHA", sha(text), 0).startswith("NOSCRIPT ")
        assert c("SCRIPT", "EXISTS", sha(text)) == [0]
        assert c.error("SCRIPT", "SHOW", sha(text)).startswith("NOSCRIPT ")
        assert c.error("EVALSHA", sha(text), 0).startswith("NOSCRIPT ")
    assert c.error("SCRIPT", "LOAD", bad).startswith("ERR Error compiling script")
    assert c("SCRIPT", "LOAD", "return 1") == sha("return 1").encode()
    assert c("EVALSHA", sha("return 1"), 0) == 1
    assert c.executor.scripts.stats()["scripts"] == 1
    c("SCRIPT", "FLUSH")
    assert c("SCRIPT", "EXISTS", sha(bad), sha(long)) == [0, 0]


def test_a_text_that_others_loaded_is_looked_at_once(c):
    """To look at it for each name would take half an hour."""
    large, false = "return #'" + "x" * (3 << 20) + "'", sha("return 1")
    c.replica.system_set(b"scripts", {sha(t).encode(): t.encode() for t in (large,)}
                         | {false.encode(): large.encode()})
    assert c("SCRIPT", "EXISTS", *[sha(large), false] * 100_000) == [1, 0] * 100_000


def test_texts_that_are_refused(c):
    assert c.error("EVAL", "syntax error(", 0) == (
        "ERR Error compiling script (new function): user_script:1: '=' expected near 'error'")
    assert c.error("SCRIPT", "LOAD", "\n\nreturn (") == (
        "ERR Error compiling script (new function): user_script:3: unexpected symbol near '<eof>'")
    assert c.error("EVAL", "#!lua", 0) == "ERR Invalid script shebang"
    assert c.error("EVAL", "#!foo\nreturn 1", 0) == "ERR Unexpected engine in script shebang: #!foo"
    assert c.error("EVAL", "#!lua name=x\n", 0) == "ERR Unknown lua shebang option: name=x"
    assert c.error("EVAL", "#!lua flags=allow-oom,what?\n", 0) == (
        "ERR Unexpected flag in script shebang: what?")
    assert c.error("EVAL", "#!lua flags=no-writes,\n", 0) == (
        "ERR Unexpected flag in script shebang: ")
    for quoted in ['#!lua flags="no-writes', "#!lua 'flags=no-writes'x", "#!lua " + "x" * 70_000]:
        assert c.error("EVAL", quoted + "\nreturn 1", 0) == (
            "ERR Invalid engine in script shebang")
    for text in ["#", "# return 1", "#lua\nreturn 1", "assert(loadstring('# \\n return 1'))"]:
        assert "unexpected symbol near '#'" in c.error("EVAL", text, 0)
    assert c.error("EVAL", "-" * (5 << 20), 0) == "ERR script is too long"
    assert c("EVAL", "#!lua flags=allow-stale,no-cluster,allow-cross-slot-keys\nreturn 1", 0) == 1
    for line in ["#!lua flags=", '#!lua "flags=no-writes"', "#!lua flags='no-writes,allow-oom'\r",
                 '#!"lua"', '#!lua\tflags="no\\x2dwrites"']:
        assert c("EVAL", line + "\nreturn 1", 0) == 1
    assert c.error("EVAL", "#!lua 'flags=no-writes'\nreturn redis.call('set', 'k', 1)", 0
                   ).startswith("ERR Write commands are not allowed from read-only scripts.")
    assert "user_script:2: x" in c.error("EVAL", "#!lua\nerror('x')", 0)


def test_what_a_script_may_not_call(c):
    for text, error in [
            ("redis.call('nosuch')", "ERR Unknown Redis command called from script"),
            ("redis.call('config', 'foo')", "ERR Unknown Redis command called from script"),
            ("redis.call('get')", "ERR Wrong number of args calling Redis command from script"),
            ("redis.call('multi')", "ERR This Redis command is not allowed from script"),
            ("redis.call('eval', 'return 1', 0)",
             "ERR This Redis command is not allowed from script"),
            ("redis.call('script', 'flush')", "ERR This Redis command is not allowed from script"),
            ("redis.call('config', 'get', '*')",
             "ERR This Redis command is not allowed from script")]:
        assert c.error("EVAL", text, 0) == f"{error} script: {sha(text)}, on @user_script:1."


def test_scripts_that_only_read(c):
    c("SET", "k", "v")
    error = "ERR Write commands are not allowed from read-only scripts."
    text = "return redis.call('set', 'k', 'x')"
    assert c.error("EVAL_RO", text, 0).startswith(error)
    assert c.error("EVALSHA_RO", sha(text), 0).startswith(error)
    assert c.error("EVAL", "#!lua flags=no-writes\n" + text, 0).startswith(error)
    assert c("EVAL_RO", "return redis.call('get', 'k')", 0) == b"v"
    assert c.error("EVAL_RO", "#!lua\nreturn 1", 0) == (
        "ERR Can not execute a script with write flag using *_ro command.")
    assert c("EVAL_RO", "#!lua flags=no-writes\nreturn 1", 0) == 1
    assert c("GET", "k") == b"v"


def test_without_memory(c):
    c("SET", "k", "v")
    c.executor.max_memory = 1
    write, read = "return redis.call('set', 'k', 1)", "return redis.call('get', 'k')"
    out = "OOM command not allowed when used memory > 'maxmemory'."
    assert c.error("EVAL", write, 0).startswith(out)
    assert c("EVAL", read, 0) == b"v"
    assert c("EVAL", "redis.call('del', 'k') " + write, 0) == b"OK"      # it has begun to write
    assert c.error("EVAL", "#!lua\n" + read, 0).startswith("OOM allow-oom flag is not set")
    assert c("EVAL", "#!lua flags=allow-oom\n" + write, 0) == b"OK"
    assert c("EVAL", "#!lua flags=no-writes\n" + read, 0) == b"1"
    assert c("EVAL", "return redis.pcall('set', 'x', 'y').err", 0) == out.encode()


def test_when_the_log_cannot_be_written(c):
    c.executor.misconf = "no"
    assert c.error("EVAL", "redis.call('set', 'k', 1)", 0).startswith("MISCONF no script: ")
    assert c.error("EVAL", "#!lua\nreturn 1", 0) == "MISCONF no"
    assert c("EVAL", "#!lua flags=no-writes\nreturn 1", 0) == c("EVAL", "return 1", 0) == 1


def test_the_database_of_a_script_is_its_own(c):
    c("SELECT", 2)
    c("EVAL", "redis.call('set', 'k', 2) redis.call('select', 3) redis.call('set', 'k', 3)", 0)
    assert c("GET", "k") == b"2"
    c("SELECT", 3)
    assert c("GET", "k") == b"3"
    c("EVAL", "redis.call('set', 'k', 4)", 0)
    assert c("GET", "k") == b"4"


def test_nobody_blocks_in_a_script(c):
    for call in ("'blpop', 'q', 0", "'brpop', 'q', 0", "'blmove', 'q', 'r', 'left', 'left', 0",
                 "'bzpopmin', 'z', 0"):
        assert c("EVAL", f"return redis.pcall({call})", 0) is None
    assert c("EVAL", "return redis.call('wait', 1, 0)", 0) == 0


def test_a_script_is_one_op(c):
    assert c.effects("EVAL", "for i = 1, 100 do redis.call('set', 'k' .. i, i) end", 0) == 1
    assert c.effects("EVAL", "return redis.call('get', 'k1')", 0) == 0
    c("MULTI")
    c("SET", "a", 1)
    c("EVAL", "redis.call('set', 'b', 1) redis.call('set', 'c', 1)", 0)
    assert c.effects("EXEC") == 1


def test_what_a_script_has_written_stands_when_it_fails(c):
    assert c.error("EVAL", "redis.call('set', 'k', 1) error('x')",
                   0).startswith("ERR user_script:1: x")
    assert c("GET", "k") == b"1"


def test_effects_reach_other_replicas_and_the_script_does_not():
    a, b = Client("a"), Client("b")
    a("EVAL", "redis.call('set', 'k', math.random()) redis.call('sadd', 's', 1, 2, 3) "
              "redis.call('spop', 's') redis.call('incr', 'n')", 0)
    exchange(a, b)
    for command in (("GET", "k"), ("SMEMBERS", "s"), ("GET", "n")):
        assert a(*command) == b(*command)
    assert a("CRDT.DIGEST") == b("CRDT.DIGEST")
    assert b.executor.scripts is None


def test_increments_of_scripts_add_up():
    a, b = Client("a"), Client("b")
    for c in (a, b):
        c("EVAL", "for i = 1, 10 do redis.call('incr', KEYS[1]) end", 1, "n")
    exchange(a, b)
    assert a("GET", "n") == b("GET", "n") == b"20"


def test_watch_sees_what_a_script_writes(c):
    other = c.other()
    c("WATCH", "k")
    other("EVAL", "return redis.call('get', 'k')", 0)
    c("MULTI")
    c("SET", "x", 1)
    assert c("EXEC") == [b"OK"]
    c("WATCH", "k")
    other("EVAL", "redis.call('set', 'k', 1)", 0)
    c("MULTI")
    c("SET", "x", 2)
    assert c("EXEC") is None


def test_a_script_too_large_for_an_op(c):
    c.replica.op_limit = 10_000
    text = ("local n = 0 for i = 1, 100 do local r = redis.pcall('set', 'k' .. i, ARGV[1]) "
            "if r.err then return {n, r.err} end n = n + 1 end return n")
    done, error = c("EVAL", text, 0, "v" * 500)
    assert 0 < done < 20 and error == b"ERR operation too large"
    assert c("DBSIZE") == done
    assert c("SET", "after", "v") == b"OK"


def test_time_stands_still(c):
    c("SET", "k", "v", "PX", 1)
    c.now += 2
    assert c("EVAL", "return redis.call('exists', 'k')", 0) == 0
    one, two = c("EVAL", "local a = redis.call('time') for i = 1, 1e6 do end "
                         "return {a, redis.call('time')}", 0)
    assert one == two


def test_sets_come_sorted_where_nothing_sorts_them(c):
    c("SADD", "s", *"qwertyuiop")
    assert c("EVAL", "return redis.call('sort', 's', 'by', 'nosort')", 0) == [
        x.encode() for x in sorted("qwertyuiop")]


def test_statistics(c):
    c.executor.reset_stats()
    c.error("EVAL", "return redis.call('select', 99)", 0)
    stats = c.executor.command_stats()
    assert stats["eval"][0] == stats["eval"][3] == stats["select"][0] == stats["select"][3] == 1
    assert c.executor.error_stats() == {"ERR": 1}
    c.executor.reset_stats()
    c("EVAL", "redis.pcall('set') return 1", 0)
    stats = c.executor.command_stats()
    assert stats["set"][2] == 1 and stats["eval"][3] == 0
    assert c.executor.error_stats() == {"ERR": 1}
    c.executor.reset_stats()
    c.error("EVAL", "return redis.error_reply('MY x')", 0)
    assert c.executor.error_stats() == {"MY": 1}


def test_python_commands_in_scripts(c):
    assert c("EVAL", "return redis.call('info', 'server')", 0).startswith(b"# Server")
    assert c("EVAL", "return redis.call('command', 'count') > 100", 0) == 1


def test_acl_check_cmd(c):
    assert c("EVAL", "return redis.acl_check_cmd('set', 'k', 1)", 0) == 1
    assert "Invalid command passed to redis.acl_check_cmd()" in c.error(
        "EVAL", "return redis.acl_check_cmd('nosuch')", 0)


def test_debug_is_refused(c):
    assert c("SCRIPT", "DEBUG", "NO") == b"OK"
    assert c.error("SCRIPT", "DEBUG", "YES") == "ERR scripts cannot be debugged here"
    assert c.error("SCRIPT", "DEBUG", "X") == "ERR Use SCRIPT DEBUG YES/SYNC/NO"
    assert c.error("SCRIPT", "FLUSH", "X") == "ERR SCRIPT FLUSH only support SYNC|ASYNC option"
    assert c.error("SCRIPT", "KILL") == "NOTBUSY No scripts in execution right now."


def test_info(c):
    before = c("INFO", "memory")
    c("EVAL", "return 1", 0)
    after = c("INFO", "memory")
    assert b"number_of_cached_scripts:0" in before and b"number_of_cached_scripts:1" in after
    assert b"used_memory_lua:0\r\n" in before and b"used_memory_lua:0\r\n" not in after
