"""Dispatch without sockets: look-up, refusals, statistics, slow log, sessions."""
from __future__ import annotations

import gc
import weakref

import pytest

from crdtredis._core import Replica
from crdtredis._engine import Executor
from crdtredis.commands.table import CountedKeys
from tests.engine.conftest import NOW, tokens

UNKNOWN = b"-ERR unknown command '%b', with args beginning with: %b\r\n"


def test_names_in_any_case(run):
    assert run("PING", "ping", "PiNg x") == b"+PONG\r\n+PONG\r\n$1\r\nx\r\n"


def test_unknown_commands_repeat_128_bytes_of_name_and_arguments(run, executor):
    assert run("nope") == UNKNOWN % (b"nope", b"")
    assert run("nope a bc") == UNKNOWN % (b"nope", b"'a' 'bc' ")
    assert run("n" * 200 + " a") == UNKNOWN % (b"n" * 128, b"'a' ")
    assert run("nope " + "a" * 300 + " b") == UNKNOWN % (b"nope", b"'" + b"a" * 128 + b"' ")
    assert executor.execute(run.session, [b"\0x\r\n", b"a\0b"]) == UNKNOWN % (b"", b"'a' ")
    assert executor.execute(run.session, [b""]) == UNKNOWN % (b"", b"")
    assert executor.execute(run.session, [b"a\r\nb", b"c\nd"]) == UNKNOWN % (b"a  b", b"'c d' ")


def test_arity(run):
    for line, name in (("GET", b"get"), ("GET a b", b"get"), ("CLIENT", b"client"),
                       ("CLIENT SETNAME", b"client|setname"),
                       ("client GETNAME x", b"client|getname")):
        assert run(line) == b"-ERR wrong number of arguments for '%b' command\r\n" % name


def test_unknown_subcommands(run):
    assert run("client nope a") == b"-ERR unknown subcommand 'nope'. Try CLIENT HELP.\r\n"


def test_no_authentication_before_the_password(run, executor):
    executor.requirepass = b"secret"
    s = executor.session()
    assert run("PING", session=s) == b"-NOAUTH Authentication required.\r\n"
    assert run("GET", session=s) == b"-ERR wrong number of arguments for 'get' command\r\n"
    assert run("AUTH wrong", session=s).startswith(b"-WRONGPASS ")
    assert run("AUTH default wrong", session=s).startswith(b"-WRONGPASS ")
    assert run("AUTH other secret", session=s).startswith(b"-WRONGPASS ")
    assert run("HELLO 3", session=s).startswith(b"-NOAUTH HELLO must be called")
    assert run("HELLO 3 AUTH default secret", session=s).startswith(b"%7\r\n")
    assert run("PING", session=s) == b"+PONG\r\n"
    assert run("RESET", "PING", session=s) == b"+RESET\r\n-NOAUTH Authentication required.\r\n"
    assert run("AUTH secret", "PING", session=s) == b"+OK\r\n+PONG\r\n"
    assert run("PING") == b"+PONG\r\n", "whoever was connected before the password was set stays"
    executor.requirepass = None
    assert run("PING", session=executor.session()) == b"+PONG\r\n"


def test_loading(run, executor):
    executor.loading = True
    assert run("GET k", "PING") == b"-LOADING Redis is loading the dataset in memory\r\n" * 2
    assert run("ECHO x", "MULTI", "DISCARD", "SELECT 1") == b"$1\r\nx\r\n+OK\r\n+OK\r\n+OK\r\n"
    executor.loading = False
    assert run("GET k") == b"$-1\r\n"


def test_misconf_refuses_writes_only(run, executor):
    run("SET k v")
    executor.misconf = "Errors writing to the AOF file: No space left on device"
    refusal = b"MISCONF Errors writing to the AOF file: No space left on device\r\n"
    assert run("SET k w", "GET k") == b"-" + refusal + b"$1\r\nv\r\n"
    assert run("MULTI", "GET k", "EXEC") == b"+OK\r\n+QUEUED\r\n*1\r\n$1\r\nv\r\n"
    assert (run("MULTI", "SET k w", "EXEC") == b"+OK\r\n-" + refusal +
            b"-EXECABORT Transaction discarded because of previous errors.\r\n")
    executor.misconf = None
    run("MULTI", "SET k w")
    executor.misconf = "Errors writing to the AOF file: No space left on device"
    assert run("EXEC") == b"-EXECABORT Transaction discarded because of: " + refusal
    executor.misconf = None
    assert run("GET k", "EXEC") == b"$1\r\nv\r\n-ERR EXEC without MULTI\r\n"


def test_a_clock_that_was_set_back_refuses_writes_until_it_has_come_there_again(
        run, executor, replica):
    run("SET k v")
    replica.now = NOW - replica.max_clock_skew - 1
    refusal = (b"CLOCKAHEAD Writes are refused: timestamps here are ahead of the clock by more "
               b"than max-clock-skew. "
               b"GET /health says how to go on\r\n")
    assert (run("SET k w", "GET k", "LPUSH l x", "INCR n") == b"-" + refusal + b"$1\r\nv\r\n" +
            b"-" + refusal + b"-" + refusal)
    assert (executor.clock_ahead and run("MULTI", "GET k", "EXEC")
            == b"+OK\r\n+QUEUED\r\n*1\r\n$1\r\nv\r\n")
    assert (run("MULTI", "SET k w", "EXEC") == b"+OK\r\n-" + refusal +
            b"-EXECABORT Transaction discarded because of previous errors.\r\n")
    replica.accepted = NOW                                                 # an operator's word
    assert run("SET k w", "GET k") == b"+OK\r\n$1\r\nw\r\n" and not executor.clock_ahead
    run("MULTI", "SET k x")
    replica.accepted = 0
    assert run("EXEC") == b"-EXECABORT Transaction discarded because of: " + refusal
    # the clock has come there
    replica.now = NOW - replica.max_clock_skew
    assert run("SET k y") == b"+OK\r\n"


def test_a_subcommand_is_found_through_its_container_only(run):
    assert (run("COMMAND|COUNT x", "MULTI", "COMMAND|COUNT",
                "DISCARD").count(b"-ERR unknown command 'COMMAND|COUNT'") == 2)


def test_out_of_memory_refuses_what_may_grow(run, executor):
    run("SET k v")
    executor.max_memory = 1
    assert run("SET k w", "GET k", "MULTI", "APPEND k x", "DISCARD") == (
        b"-OOM command not allowed when used memory > 'maxmemory'.\r\n$1\r\nv\r\n+OK\r\n-OOM "
        b"command not allowed when used memory > 'maxmemory'.\r\n+OK\r\n")
    executor.max_memory = executor.replica.stats()["memory"] + 100_000
    assert run("SET k w", "SETRANGE big 200000 x", "SET k v", "DEL big", "SET k v") == (
        b"+OK\r\n:200001\r\n-OOM command not allowed when used memory > "
        b"'maxmemory'.\r\n:1\r\n+OK\r\n"), "as of each command"


def test_statistics(run, executor):
    run("GET a", "SET a 1", "GET a", "SET", "NOPE", "INCR a x", "TEST.RAISE command", "MULTI",
        "GET a", "GET", "EXEC")
    stats = executor.command_stats()
    assert {name: (c, r, f) for name, (c, usec, r, f) in stats.items()} == {
        "get": (2, 1, 0), "set": (1, 1, 0), "incr": (0, 1, 0), "test.raise": (1, 0, 1),
        "multi": (1, 0, 0), "exec": (1, 0, 1)}
    assert executor.error_stats() == {"ERR": 4, "CODE": 1, "EXECABORT": 1}
    assert (executor.stats() == {"commands": 6, "hits": 1, "misses": 1, "errors": 6,
                                 "transactions": 0})
    executor.reset_stats()
    assert executor.command_stats() == executor.error_stats() == {}
    assert set(executor.stats().values()) == {0}


def test_error_codes_are_bounded(run, executor):
    for i in range(300):
        executor.execute(run.session, [b"NOPE%d" % i])
    assert executor.error_stats() == {"ERR": 300}


def test_a_python_command_that_fails_answers_and_goes_on(run, caplog):
    assert run("TEST.RAISE command") == b"-CODE as asked\r\n"
    assert run("TEST.RAISE x") == b"-ERR internal error\r\n"
    assert run("TEST.OBJECT") == b"-ERR internal error\r\n"
    assert "ZeroDivisionError: x" in caplog.text
    assert run("PING") == b"+PONG\r\n"


def test_slow_log(run, executor):
    executor.set_slowlog(0, 3)
    run("CLIENT SETNAME me", "PING", "ECHO " + "x" * 200,
        "MGET " + " ".join(f"k{i}" for i in range(40)))
    entries = executor.slowlog()
    assert [e[0] for e in entries] == [3, 2, 1]
    assert (entries[0][3][0] == b"MGET" and len(entries[0][3]) == 32
            and entries[0][3][31] == b"... (10 more arguments)")
    assert entries[1][3] == [b"ECHO", b"x" * 128 + b"... (72 more bytes)"]
    assert entries[2][1] == NOW // 1000 and entries[2][5] == "me"
    assert len(executor.slowlog(1)) == 1
    executor.set_slowlog(0, 2)
    assert [e[0] for e in executor.slowlog()] == [3, 2]
    executor.set_slowlog(0, 5)
    run("PING")
    assert [e[0] for e in executor.slowlog()] == [4, 3, 2]
    executor.slowlog_reset()
    assert executor.slowlog() == []
    executor.set_slowlog(-1, 5)
    run("PING")
    assert executor.slowlog() == []
    executor.set_slowlog(10_000, 5)
    run("TEST.SLEEP 0.02", "PING")
    (entry,) = executor.slowlog()
    assert entry[3] == [b"TEST.SLEEP", b"0.02"] and 15_000 < entry[2] < 2_000_000


def test_deferred_replies(run, executor, replica):
    other = executor.session()
    assert run("TEST.DEFER") == run("TEST.DEFER 100", session=other) == b""
    first, second = tokens[-2:]
    replica.now += 99
    executor.expire_deferred()
    assert other.take_replies() == b""
    replica.now += 1
    executor.expire_deferred()
    assert other.take_replies() == b"+TIMEOUT\r\n"
    assert first.resolve([1, b"x"]) and not first.resolve(2) and not second.resolve(3)
    assert run.session.take_replies() == b"*2\r\n:1\r\n$1\r\nx\r\n"
    assert run("MULTI", "TEST.DEFER", "EXEC") == b"+OK\r\n+QUEUED\r\n*1\r\n$7\r\nat once\r\n"


def test_sessions_and_tokens_are_freed():
    replica = Replica("a", NOW)
    executor = Executor(replica)
    session = executor.session()
    executor.execute(session, [b"MULTI"])
    executor.execute(session, [b"SET", b"k", b"v" * 10000])
    executor.execute(session, [b"DISCARD"])
    executor.execute(session, [b"WATCH", b"k"])
    executor.execute(session, [b"TEST.DEFER"])
    gone = weakref.ref(tokens.pop()) if hasattr(tokens[-1], "__weakref__") else None
    del session, executor, replica
    gc.collect()
    assert gone is None or gone() is None


def test_replies_of_resp3(run):
    assert run("HELLO 3").startswith(b"%7\r\n")
    assert (run("GET nope", "CLIENT TRACKINGINFO")
            == b"_\r\n%3\r\n$5\r\nflags\r\n~1\r\n$3\r\noff\r\n$8\r\nredirect\r\n:-1\r\n"
               b"$8\r\nprefixes\r\n*0\r\n")
    assert run("MULTI", "GET nope", "EXEC") == b"+OK\r\n+QUEUED\r\n*1\r\n_\r\n"
    assert run("WATCH k", "SET k 1", "MULTI", "EXEC") == b"+OK\r\n+OK\r\n+OK\r\n_\r\n"
    assert run("RESET", "GET nope") == b"+RESET\r\n$-1\r\n"


@pytest.mark.parametrize("fault, registration", [
    ("registered twice", dict(name="GET")),
    ("upper case", dict(name="get")),
    ("unknown flags", dict(flags="readonly fats")),
    ("either it writes", dict(flags="readonly write", replicas="x")),
    ("says what concurrent replicas get", dict(flags="write")),
    ("arity counts", dict(arity=0)),
    ("arity counts", dict(name="TEST|SUB", arity=1)),
    ("keys are", dict(keys=(0, 1, 1))),
    ("keys are", dict(keys=(2, 1, 1), arity=3)),
    ("does not reach the first", dict(keys=(2, 2, 1))),
    ("does not reach the last", dict(keys=(1, 2, 1))),
    ("does not reach the number", dict(keys=[CountedKeys("RO access", 2)])),
    ("what becomes of its keys", dict(keys=(1, 1, 1), flags="write", replicas="x")),
    ("what becomes of its keys", dict(keys=(1, 1, 1))),
    ("leave the work", dict(handler=None)),
])
def test_registration_refuses_what_cannot_be_right(fault, registration):
    from crdtredis.commands import table
    handler = registration.pop("handler", print)
    values = dict(name="TEST.NEW", arity=2, group="server", since="1", summary="x") | registration
    with pytest.raises(ValueError, match=fault):
        table.command(values.pop("name"), **values)(handler)
    assert "TEST.NEW" not in table.COMMANDS


def test_key_positions():
    from crdtredis.commands import table
    specs = table.load()
    assert specs["MSET"].key_positions([b"MSET", b"a", b"1", b"b", b"2"]) == [1, 3]
    assert specs["GET"].key_positions([b"GET", b"a"]) == [1]
    assert specs["PING"].key_positions([b"PING"]) == []
