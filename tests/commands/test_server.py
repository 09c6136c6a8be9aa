"""INFO, COMMAND, CONFIG, saving, stopping, waiting and looking inside: with stand-ins for the parts
of a server, and without any."""
import threading
import time

import pytest

from crdtredis import info
from crdtredis._engine import COMMAND_LOGS
from crdtredis._resp import Simple
from crdtredis.commands import table, usage
from tests.commands.parts import NOW, client
from tests.commands.run import Client
from tests.respclient import decode


@pytest.fixture
def c():
    return client()


def join_threads():
    for t in threading.enumerate():
        if t.name == "save":
            t.join()


# ---- INFO ----------------------------------------------------------------------------------------

def fields(text: bytes) -> dict:
    return dict(line.split(":", 1) for line in text.decode().split("\r\n") if ":" in line)


def sections(text: bytes) -> list:
    return [line[2:] for line in text.decode().split("\r\n") if line.startswith("# ")]


@pytest.mark.parametrize("make", [Client, client], ids=["no server", "a server"])
def test_info_works_with_any_parts_missing(make):
    c = make()
    c("SET", "a", 1, "EX", 100)
    f = fields(c("INFO", "everything"))
    assert ((f["redis_mode"], f["role"], f["aof_last_write_status"], f["db0"])
            == ("standalone", "master", "ok", "keys=1,expires=1,avg_ttl=100000,subexpiry=0"))
    assert int(f["used_memory"]) > 0 and int(f["used_memory_rss"]) > 1_000_000
    assert f["cmdstat_set"].startswith("calls=1,usec=")


def test_info_sections(c):
    everything = ["Server", "Clients", "Memory", "Persistence", "Stats", "Replication", "CRDT",
                  "Mirror", "CPU", "Modules", "Commandstats", "Errorstats",
                  "Latencystats", "Cluster", "Keyspace"]
    default = [s for s in everything if s not in ("Commandstats", "Latencystats")]
    assert sections(c("INFO", "all")) == sections(c("INFO", "everything")) == everything
    assert sections(c("INFO")) == sections(c("INFO", "default")) == default
    assert sections(c("INFO", "CRDT", "server", "nosuch")) == ["Server", "CRDT"]
    assert (sections(c("INFO", "default", "commandstats"))
            == [s for s in everything if s != "Latencystats"])
    assert c("INFO", "nosuch") == b""


def test_info_has_what_dashboards_look_for(c):
    f = fields(c("INFO", "everything"))
    for name in """
            redis_version process_id run_id tcp_port uptime_in_seconds hz connected_clients
            blocked_clients maxclients used_memory used_memory_human used_memory_rss
            used_memory_peak maxmemory maxmemory_policy mem_fragmentation_ratio loading
            rdb_changes_since_last_save rdb_last_save_time rdb_last_bgsave_status
            aof_enabled aof_last_write_status total_connections_received
            total_commands_processed instantaneous_ops_per_sec total_net_input_bytes
            total_net_output_bytes rejected_connections expired_keys evicted_keys
            keyspace_hits keyspace_misses latest_fork_usec role connected_slaves
            master_replid used_cpu_sys used_cpu_user cluster_enabled total_error_replies
            replica_id epoch peers_up conflicts_decided
    """.split():
        assert name in f, name
    assert ((f["connected_clients"], f["instantaneous_ops_per_sec"], f["maxclients"])
            == ("3", "12", "10000"))
    assert len(f["run_id"]) == 40


def test_info_counts(c):
    c("SET", "a", 1)
    c("GET", "a"), c("GET", "b")
    c.error("NOSUCH")
    c.error("INCR", "a", "b")
    f = fields(c("INFO", "all"))
    assert ((f["keyspace_hits"], f["keyspace_misses"], f["total_error_replies"], f["errorstat_ERR"])
            == ("1", "1", "2", "count=2"))
    assert f["cmdstat_incr"] == "calls=0,usec=0,usec_per_call=0.00,rejected_calls=1,failed_calls=0"
    assert c("CONFIG", "RESETSTAT") == b"OK"
    f = fields(c("INFO", "all"))
    assert ((f["keyspace_hits"], f["total_error_replies"], f.get("errorstat_ERR"),
             f.get("cmdstat_set")) == ("0", "0", None, None))


def test_info_tells_of_peers_and_of_a_failed_log(c):
    c.server.sync.urls["http://b:1"] = "b"
    c.executor.misconf = "no space left"
    f = fields(c("INFO"))
    assert f["peer0"].startswith("url=http://b:1,replica=b,state=up,lag_ops=0")
    assert ((f["peers"], f["peers_up"], f["total_net_repl_output_bytes"],
             f["aof_last_write_status"]) == ("1", "1", "11", "err"))


def test_info_tells_of_the_log(c):
    f = fields(c("INFO", "persistence"))
    assert ((f["aof_enabled"], f["log_segment"], f["log_segment_bytes"], f["log_unsynced_bytes"],
             f["appendfsync"]) == ("1", "7", "4096", "10", "everysec"))
    assert fields(Client()("INFO", "persistence"))["aof_enabled"] == "0"


def test_uptime(c, monkeypatch):
    monkeypatch.setattr(info, "BEGUN", time.monotonic() - 90_000)
    c.now -= 10**9                                              # the clock was set back
    f = fields(c("INFO", "server"))
    assert 90_000 <= int(f["uptime_in_seconds"]) < 91_000 and f["uptime_in_days"] == "1"


def test_info_is_text_in_resp3(c):
    assert c.other(3).raw("INFO", "cluster") == b"=34\r\ntxt:# Cluster\r\ncluster_enabled:0\r\n\r\n"


@pytest.mark.parametrize("n,text", [(0, "0B"), (1023, "1023B"), (1536, "1.50K"), (1 << 20, "1.00M"),
                                    (5 << 30, "5.00G"), (1 << 60, "1024.00P")])
def test_human_sizes(n, text):
    assert info.human(n) == text


# ---- COMMAND -------------------------------------------------------------------------------------

def test_command_tells_of_the_whole_table(c):
    names = [i[0] for i in c("COMMAND")]
    assert c("COMMAND", "COUNT") == len(names) == len(set(names))
    listed = c("COMMAND", "LIST")
    assert (set(names) == {n for n in listed if b"|" not in n} and {b"client|list", b"config|get"}
            <= set(listed))
    assert {b"get", b"object", b"crdt.clock"} <= set(names) and not any(b"|" in n for n in names)
    assert [i[0] for i in c("COMMAND", "INFO")] == names


def test_command_info(c):
    get, nothing = c("COMMAND", "INFO", "Get", "nosuch")
    assert nothing is None
    assert ((get[:2], sorted(get[2]), get[3:6], sorted(get[6]))
            == ([b"get", 2], [b"fast", b"readonly"], [1, 1, 1], [b"@fast", b"@read", b"@string"]))
    sub = c("COMMAND", "INFO", "object|encoding")[0]
    assert sub[0] == b"object|encoding" and sub[3] == 2
    assert ({s[0] for s in c("COMMAND", "INFO", "config")[0][9]} == {b"config|get", b"config|set",
                                                                     b"config|resetstat",
                                                                     b"config|rewrite",
                                                                     b"config|help"})


def test_key_specifications(c):
    mset = decode(c.other(3).raw("COMMAND", "INFO", "mset"))[0]
    assert (mset[8][0][b"find_keys"] == {b"type": b"range",
                                         b"spec": {b"lastkey": -1, b"keystep": 2, b"limit": 0}})
    rename = decode(c.other(3).raw("COMMAND", "INFO", "rename"))[0]
    assert [s[b"begin_search"][b"spec"][b"index"] for s in rename[8]] == [1, 2]
    assert ({frozenset(s[b"flags"]) for s in rename[8]}
            == {frozenset({b"RW", b"access", b"delete"}), frozenset({b"OW", b"update"})})


def test_command_list_filters(c):
    assert set(c("COMMAND", "LIST", "FILTERBY", "PATTERN",
                 "CONFIG|*")) == {
                     b"config|get", b"config|set", b"config|resetstat", b"config|rewrite",
                                                                           b"config|help"}
    assert b"get" in c("COMMAND", "LIST", "filterby", "aclcat", "string")
    assert (c("COMMAND", "LIST", "FILTERBY", "MODULE", "x") == c("COMMAND", "LIST", "FILTERBY",
                                                                 "ACLCAT", "x") == [])
    for args in [("x",), ("FILTERBY", "x", "y"), ("FILTERBY", "PATTERN")]:
        assert c.error("COMMAND", "LIST", *args) == "ERR syntax error"


@pytest.mark.parametrize("call,keys",
                         [("GET a", "a"), ("MSET a 1 b 2", "a b"), ("MSET a 1 b", "a b"),
                                       ("RENAME a b", "a b"), ("BITOP AND d a b", "d a b"),
                                       ("OBJECT ENCODING a", "a"), ("MEMORY USAGE a", "a"),
                                       ("del a b c", "a b c"), ("LCS a b LEN", "a b")])
def test_getkeys(c, call, keys):
    assert c("COMMAND", "GETKEYS", *call.split()) == keys.encode().split()
    assert [k for k, _ in c("COMMAND", "GETKEYSANDFLAGS", *call.split())] == keys.encode().split()


def test_getkeys_errors(c):
    assert c("COMMAND", "GETKEYS", "EVAL", "return 1", "0") == []       # it need not have any
    assert c.error("COMMAND", "GETKEYS", "nosuch", "a") == "ERR Invalid command specified"
    assert c.error("COMMAND", "GETKEYS", "PING", "a") == "ERR The command has no key arguments"
    assert (c.error("COMMAND", "GETKEYS", "GET", "a", "b")
            == "ERR Invalid number of arguments specified for command")
    assert (c.error("COMMAND", "GETKEYS")
            == "ERR wrong number of arguments for 'command|getkeys' command")


def test_what_set_does_to_its_key_depends_on_its_options(c):
    assert c("COMMAND", "GETKEYSANDFLAGS", "SET", "a", "1")[0][1] == [b"OW", b"update"], (
        "in Redis's order")
    assert (c("COMMAND", "GETKEYSANDFLAGS", "SET", "a", "1", "get")[0][1]
            == [b"RW", b"access", b"update"])
    assert (c("COMMAND", "GETKEYSANDFLAGS", "BITFIELD", "a", "GET", "u8", "0")[0][1]
            == [b"RO", b"access"])


def test_docs(c):
    docs = decode(c.other(3).raw("COMMAND", "DOCS"))
    assert set(docs) == {i[0] for i in c("COMMAND")}
    for name, d in docs.items():
        assert d[b"summary"] and d[b"since"] and d[b"group"], name
    assert b"replicas" in docs[b"set"] and b"replicas" not in docs[b"get"]
    assert {name: d[b"since"] for name, d in docs[b"object"][b"subcommands"].items()} == {
        b"object|encoding": b"2.2.3", b"object|freq": b"4.0.0", b"object|help": b"6.2.0",
        b"object|idletime": b"2.2.3", b"object|refcount": b"2.2.3",
        b"object|local": docs[b"crdt.inspect"][b"since"]}
    expire = decode(c.other(3).raw("COMMAND", "DOCS", "expire", "nosuch"))[b"expire"][b"arguments"]
    assert [a[b"name"] for a in expire] == [b"key", b"seconds", b"option"]
    assert expire[2][b"type"] == b"oneof" and expire[2][b"flags"] == [b"optional"]
    assert [a[b"token"] for a in expire[2][b"arguments"]] == [b"NX", b"XX", b"GT", b"LT"]


def own_commands():
    """All but those that other tests have registered."""
    return [s for s in table.load().values() if not s.name.startswith("TEST.")]


def test_the_synopsis_says_that_there_are_arguments_exactly_where_the_arity_does():
    table.load()
    for spec in own_commands():
        arguments = usage.arguments(spec)
        required = sum(Simple("optional") not in a.get("flags", ()) for a in arguments)
        least = abs(spec.arity) - 1 - (1 if spec.container else 0)
        if ("container" not in spec.flags and spec.group != "cluster"
                and spec.name not in ("CLIENT|KILL", "HOTKEYS|START")):     # they say it themselves
            assert (required > 0) == (least > 0), (
                f"{spec.name}, arity {spec.arity}: its synopsis says {spec.usage!r}")


def test_command_info_is_that_of_redis(c, reference):
    """Arity, flags, keys and categories of the commands of these groups that both have; containers'
    categories aside, which nobody can use."""
    def table_of(rows):
        return {row[0]: row for top in rows for row in [top, *top[9]]}

    with reference.connect(resp=3) as redis:
        theirs = table_of(redis("COMMAND"))
    ours = table_of(decode(c.other(3).raw("COMMAND")))
    groups = "string bitmap generic server scripting cluster hash set sorted-set list geo".split()
    # their arity is that of 7.2
    later = {b"command|getkeys", b"command|getkeysandflags", b"zrank", b"zrevrank"}
    found = {}
    for name in ours.keys() & theirs.keys():
        o, t = ours[name], theirs[name]
        if table.COMMANDS[name.decode().upper()].group not in groups:
            continue
        for what, i in [("arity", 1), ("first", 3), ("last", 4), ("step", 5)]:
            if o[i] != t[i] and not (what == "arity" and name in later):
                found[name, what] = o[i], t[i]
        for what, i in [("flags", 2), ("categories", 6), ("tips", 7)]:
            differ = set(o[i]) ^ set(t[i])
            if b"blocking" in o[2]:
                # 7.2 lets scripts call them
                differ.discard(b"noscript")
            if name == b"wait":                 # 7.2 has it among them
                differ -= {b"blocking", b"@blocking"}
            if differ and not (what == "categories" and o[9]) and name != b"function|flush":
                found[name, what] = differ
        keys_of = [[(sorted(s[b"flags"]), s[b"begin_search"], s[b"find_keys"]) for s in x[8]]
                   for x in (o, t)]
        if keys_of[0] != keys_of[1]:
            found[name, "keys"] = keys_of
    assert not found
    assert len(ours.keys() & theirs.keys()) > 90


# ---- CONFIG --------------------------------------------------------------------------------------

def pairs(flat):
    return dict(zip(flat[::2], flat[1::2]))


def test_config_get(c):
    assert pairs(c("CONFIG", "GET", "save", "appendonly")) == {b"save": b"", b"appendonly": b"yes"}
    assert pairs(c("CONFIG", "GET", "APPENDONLY")) == {b"APPENDONLY": b"yes"}
    assert {b"maxmemory", b"maxmemory-policy"} <= set(pairs(c("CONFIG", "GET", "maxmem*")))
    assert c("CONFIG", "GET", "nosuch*") == []
    assert len(pairs(c("CONFIG", "GET", "*"))) > 40
    for name in """
            maxmemory maxclients appendfsync timeout tcp-keepalive save appendonly databases
            port bind dir proto-max-bulk-len slowlog-log-slower-than slowlog-max-len
            client-output-buffer-limit hz requirepass loglevel
    """.split():
        assert pairs(c("CONFIG", "GET", name)).keys() == {name.encode()}, name


@pytest.mark.parametrize("pattern", ["[" * 3_000_000, "*a" * 1_000_000, "?*" * 2000 + "z" * 100])
def test_patterns_that_nobody_needs(c, pattern):
    """The time that they take is no client's to choose: it would be all others'."""
    for command in (("CONFIG", "GET"), ("COMMAND", "LIST", "FILTERBY", "PATTERN")):
        assert c.error(*command, pattern) == "ERR pattern is too long"
    assert c("CONFIG", "GET", "[" * 1000, "*[" * 500) == []
    many = c("CONFIG", "GET", *(["x"] * 100_000), "timeout")
    assert many == [b"timeout", b"0"]


def test_long_names_are_compared_with_none(c):
    assert ("Unknown option or number of arguments" in c.error("CONFIG", "SET", "x" * 30_000_000,
                                                               "1"))
    assert "A peer is given as host:port" in c.error("CRDT.PEER", "ADD", "x" * 30_000_000 + ":1")
    assert "Client names cannot contain" in c.error("CLIENT", "SETNAME", "x" * 30_000_000 + " ")


def test_config_set(c):
    assert c("CONFIG", "SET", "maxmemory", "100mb", "HZ", 20) == b"OK"
    assert (pairs(c("CONFIG", "GET", "maxmemory", "hz")) == {b"maxmemory": b"104857600",
                                                             b"hz": b"20"})
    assert c("CONFIG", "SET", "save", "") == b"OK"


@pytest.mark.parametrize("args,text", [
    (("hz", "11", "nosuch", "1"),
     "ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'"),
    (("hz", "11", "HZ", "12"),
     "ERR CONFIG SET failed (possibly related to argument 'HZ') - duplicate parameter"),
    (("hz", "11", "port", "1"),
     "ERR CONFIG SET failed (possibly related to argument 'port') - can't set immutable config"),
    (("hz", "11", "peers", "a:1"),
                                   "ERR CONFIG SET failed (possibly related to argument 'peers') - "
                                   "can't set immutable config "
                                   "(CRDT.PEER changes them until the next start)"),
    (("hz", "11", "appendonly", "no"), "ERR CONFIG SET failed (possibly related to argument "
                                       "'appendonly') - expected true, the only value there is, "
                                       "not \"no\""),
    (("hz", "11", "maxmemory-policy", "lru"),
     "ERR CONFIG SET failed (possibly related to argument 'maxmemory-policy') - "
     "expected one of noeviction, allkeys-lru, volatile-lru, allkeys-lfu, volatile-lfu, "
     "allkeys-random, volatile-random, volatile-ttl, not \"lru\""),
    (("hz", "11", "timeout"), "ERR wrong number of arguments for 'config|set' command")])
def test_config_set_is_all_or_nothing(c, args, text):
    assert c.error("CONFIG", "SET", *args) == text
    assert pairs(c("CONFIG", "GET", "hz")) == {b"hz": b"10"}


def test_no_argument_may_be_longer_than_an_op_can_hold(c):
    text = c.error("CONFIG", "SET", "proto-max-bulk-len", "2gb")
    assert text.startswith("ERR CONFIG SET failed (possibly related to argument "
                           "'proto-max-bulk-len') - expected a size from 1mb to 512mb")
    assert c("CONFIG", "SET", "proto-max-bulk-len", "512mb") == b"OK"


def test_config_set_of_a_wrong_value(c):
    assert c.error("CONFIG", "SET", "hz", "11", "maxmemory",
                   "x").startswith("ERR CONFIG SET failed (possibly related to argument "
                                   "'maxmemory') - ")
    assert pairs(c("CONFIG", "GET", "hz")) == {b"hz": b"10"}


def test_config_rewrite_without_a_file(c):
    assert c.error("CONFIG", "REWRITE") == "ERR The server is running without a config file"


def test_config_rewrite(tmp_path):
    from crdtredis.config import Config
    from crdtredis.info import SomeParts
    path = tmp_path / "c.json"
    path.write_text('{"replica_id": "x"}')
    c = Client(server=SomeParts(config=Config.load(file=str(path))))
    c("CONFIG", "SET", "timeout", 7)
    assert c("CONFIG", "REWRITE") == b"OK"
    assert Config.load(file=str(path)).seconds("timeout") == 7


def test_config_without_a_configuration():
    c = Client()
    assert c("CONFIG", "GET", "*") == []
    assert c.error("CONFIG", "SET", "hz", 10) == "ERR This instance runs without a configuration"


# ---- saving and stopping -------------------------------------------------------------------------

def test_save_answers_when_the_log_of_this_iteration_is_on_disk(c):
    assert c.raw("SAVE") == b""
    assert c.server.log.synced == 0, "the loop iteration's ops are not in the log yet"
    c.server.engine.iterate()
    join_threads()
    c.server.engine.iterate()
    assert c.session.take_replies() == b"+OK\r\n"
    assert c.server.log.synced == 1
    assert abs(c("LASTSAVE") - time.time()) < 5


def test_save_tells_of_a_failure(c):
    c.server.log.failure = "writing to segment-1 failed: No space left on device"
    c.raw("SAVE")
    c.server.engine.iterate()
    join_threads()
    c.server.engine.iterate()
    assert (c.session.take_replies()
            == b"-ERR writing to segment-1 failed: No space left on device\r\n")


def test_bgsave_and_bgrewriteaof(c):
    assert c("BGSAVE") == c("BGSAVE", "schedule") == b"Background saving started"
    assert c("BGREWRITEAOF") == b"Background append only file rewriting started"
    assert c.error("BGSAVE", "x") == c.error("BGSAVE", "SCHEDULE", "x") == "ERR syntax error"
    c.server.engine.iterate()
    join_threads()
    assert c.server.log.synced == 1, "for all who had asked"


def test_who_asks_for_the_disk_while_it_is_at_work_gets_the_next_round(c):
    """However many clients wait, there is one thread."""
    others = [c.other() for _ in range(50)]
    for d in others[:25]:
        d.raw("WAITAOF", 1, 0, 0)
    c.server.engine.iterate()                                   # at work for the first half
    for d in others[25:]:
        d.raw("WAITAOF", 1, 0, 0)
    for _ in range(2):
        join_threads()
        c.server.engine.iterate()
    join_threads()
    assert c.server.log.synced == 2
    c.server.engine.iterate()
    assert ({d.session.take_replies() for d in others} == {b"*2\r\n:1\r\n:0\r\n"}
            and c.server.log.synced == 2)


def test_saving_without_a_log():
    c = Client()
    assert ((c("SAVE"), c("BGSAVE"), c("LASTSAVE")) == (b"OK", b"Background saving started",
                                                        NOW // 1000))


def test_shutdown(c):
    for args in [("x",), ("SAVE", "NOSAVE"), ("ABORT", "NOW")]:
        assert c.error("SHUTDOWN", *args) == "ERR syntax error"
    assert c.error("SHUTDOWN", "ABORT") == "ERR No shutdown in progress."
    c.executor.misconf = "disk"
    assert c.error("SHUTDOWN") == "ERR Errors trying to SHUTDOWN. Check logs."
    assert not c.server.engine.stopped
    assert c.raw("SHUTDOWN", "NOW", "FORCE") == b""
    assert c.server.engine.stopped


# ---- waiting -------------------------------------------------------------------------------------

def test_wait_answers_at_once_what_is_there(c):
    c.server.sync.logged = 2
    assert c("WAIT", 2, 0) == 2
    assert c("WAIT", 0, 0) == c("WAIT", -1, 100) == 2
    assert c.server.sync.wrote == (0, 0), "a client that has written nothing waits for nothing"


def test_wait_waits_for_this_clients_last_write(c):
    c.other()("SET", "by another", 1)
    c("SET", "a", 1)
    c.other()("SET", "later", 1)
    assert c.raw("WAIT", 1, 0) == b""
    actor, seq, count, done = c.server.sync.waiting.pop()
    assert (actor, seq, count) == (c.replica.actor, 2, 1)
    done(3)
    assert c.session.take_replies() == b":3\r\n"
    assert c.server.sync.left == [done]


def test_wait_waits_for_the_op_of_the_actor_that_made_it(c):
    """The replica may have gone on as another actor since, whose seqs begin anew."""
    c("SET", "a", 1)
    before = c.replica.actor
    c.replica.new_epoch(c.replica.epoch + 1)
    assert c.raw("WAIT", 1, 0) == b""
    assert c.server.sync.waiting.pop()[:2] == (before, 1) and c.replica.actor != before


@pytest.mark.parametrize("command", [("WAIT", 1, 5000), ("WAITAOF", 0, 1, 5000),
                                     ("CRDT.SYNC", 5000)])
def test_who_waits_no_longer_is_not_kept(c, command):
    """Its time was up, or another client ended its wait: what waits for peers hears of it."""
    sync = c.server.sync
    c.raw(*command)
    c.session.unblock(error=True)
    assert len(sync.left) == 1 and c.session.take_replies().startswith(b"-UNBLOCKED")
    # its time limit is the sync thread's
    if command[0] != "CRDT.SYNC":
        c.raw(*command)
        c.now += 5000
        c.executor.expire_deferred()
        assert len(sync.left) == 2


def test_wait_times_out_with_the_number_there_is(c):
    c("SET", "a", 1)
    c.raw("WAIT", 3, 500)
    c.server.sync.logged = 1
    c.now += 499
    c.executor.expire_deferred()
    assert c.session.take_replies() == b""
    c.now += 1
    c.executor.expire_deferred()
    assert c.session.take_replies() == b":1\r\n"
    c.server.sync.waiting.pop()[3](3)
    assert c.session.take_replies() == b"", "answered once"


def test_wait_in_a_transaction_does_not_wait(c):
    c("MULTI")
    c("SET", "a", 1)
    c("WAIT", 1, 0)
    assert c("EXEC") == [b"OK", 0]


def test_wait_errors(c):
    assert c.error("WAIT", "x", 0) == "ERR value is not an integer or out of range"
    assert c.error("WAIT", 0, "x") == "ERR timeout is not an integer or out of range"
    assert c.error("WAIT", 0, -1) == "ERR timeout is negative"
    assert c.error("WAITAOF", 2, 0, 0) == "ERR value is out of range, must be between 0 and 1"
    assert c.error("WAITAOF", 1, -1, 0) == "ERR value is out of range, must be positive"


def test_waitaof_waits_for_the_disk_and_for_peers(c):
    c("SET", "a", 1)
    assert c.raw("WAITAOF", 1, 1, 0) == b""
    c.server.engine.iterate()
    join_threads()
    c.server.engine.iterate()
    assert c.session.take_replies() == b"", "peers are missing"
    c.server.sync.waiting.pop()[3](1)
    assert c.session.take_replies() == b"*2\r\n:1\r\n:1\r\n"


def test_waitaof_with_a_failed_disk_times_out(c):
    c.server.log.failure = "fdatasync failed"
    c.raw("WAITAOF", 1, 0, 100)
    c.server.engine.iterate()
    join_threads()
    c.server.engine.iterate()
    c.now += 100
    c.executor.expire_deferred()
    assert c.session.take_replies() == b"*2\r\n:0\r\n:0\r\n"


def test_wait_alone():
    c = Client()
    c("SET", "a", 1)
    assert c("WAIT", 0, 0) == 0
    c.raw("WAIT", 1, 10)
    c.now += 10
    c.executor.expire_deferred()
    assert c.session.take_replies() == b":0\r\n"


# ---- the rest ------------------------------------------------------------------------------------

def test_time():
    c = Client()
    c.now = 1_234_567_890_123
    assert c("TIME") == [b"1234567890", b"123000"]
    assert abs(int(client()("TIME")[0]) - time.time()) < 5


def test_small_answers(c):
    assert c("ROLE") == [b"master", 0, []]
    assert b"Redis ver. " in c("LOLWUT") and b"Redis ver. " in c("LOLWUT", "VERSION", 5)
    assert c("FUNCTION", "FLUSH") == c("FUNCTION", "FLUSH", "sync") == b"OK"
    assert c.error("FUNCTION", "FLUSH", "x") == "ERR FUNCTION FLUSH only supports SYNC|ASYNC option"
    assert c("FUNCTION", "LIST") == []
    for name in ("READONLY", "READWRITE", "ASKING"):
        assert c.error(name) == "ERR This instance has cluster support disabled"
    assert c.error("CLUSTER", "SLOTS") == "ERR This instance has cluster support disabled"


def test_acl(c):
    assert ((c("ACL", "WHOAMI"), c("ACL", "USERS"), c("ACL", "LIST"))
            == (b"default", [b"default"], [b"user default on nopass sanitize-payload ~* &* +@all"]))
    assert c("ACL", "GETUSER", "nobody") is None
    assert c("ACL", "GETUSER", "default")[:2] == [b"flags", [b"on", b"nopass", b"sanitize-payload"]]
    c.executor.requirepass = b"x"
    assert c("ACL", "GETUSER", "default")[1] == [b"on", b"sanitize-payload"]
    c.executor.requirepass = b"secret"
    assert c("ACL", "LIST")[0].startswith(b"user default on sanitize-payload #2bb80d53")
    assert c.error("ACL", "CAT", "nosuch") == "ERR Unknown category 'nosuch'"
    assert b"get" in c("ACL", "CAT", "string") and b"string" in c("ACL", "CAT")


def test_slowlog(c):
    assert (c("SLOWLOG", "GET"), c("SLOWLOG", "LEN")) == ([], 0)
    c.executor.set_slowlog(0, 128)
    for i in range(15):
        c("ECHO", i)
    entries = c("SLOWLOG", "GET")
    assert len(entries) == 10 and c("SLOWLOG", "LEN") >= 15
    entry = next(e for e in entries if e[3] == [b"ECHO", b"14"])
    assert (entry[1], len(entry)) == (NOW // 1000, 6)
    assert len(c("SLOWLOG", "GET", -1)) >= 15 and len(c("SLOWLOG", "GET", 2)) == 2
    c.executor.set_slowlog(-1, 128)
    assert c("SLOWLOG", "RESET") == b"OK" and c("SLOWLOG", "LEN") == 0
    assert (c.error("SLOWLOG", "GET", "x") == c.error("SLOWLOG", "GET", -2)
            == "ERR count should be greater than or equal to -1")


def test_commandlog(c):
    c.executor.set_slowlog(-1, 128)
    for log in ("slow", "large-request", "large-reply"):
        assert (c("COMMANDLOG", "GET", 10, log), c("COMMANDLOG", "LEN", log)) == ([], 0)
    c.executor.set_slowlog(100, 2, COMMAND_LOGS["large-request"])
    c.executor.set_slowlog(100, 128, COMMAND_LOGS["large-reply"])
    for n in (73, 72, 92):                 # *3 $3 SET $1 k $73 ...: 27 bytes of RESP and the value
        c("SET", "k", "x" * n)
    c("GET", "k")                           # a reply `$92 ...`: 99 bytes
    c("SET", "k", "x" * 93), c("GET", "k")
    c("EVAL", "return redis.call('GET', 'k') .. redis.call('GET', 'k')", 0)     # is one command
    requests = c("COMMANDLOG", "GET", -1, "Large-Request")
    assert [e[3][0] for e in requests] == [b"SET", b"SET"]
    assert requests[1][2:4] == [119, [b"SET", b"k", b"x" * 92]] and len(requests[1]) == 6
    replies = c("COMMANDLOG", "GET", -1, "LARGE-REPLY")
    assert [e[2] for e in replies][1:] == [194, 100] and replies[2][3] == [b"GET", b"k"]
    assert replies[0][3][0] == b"COMMANDLOG"
    assert (c("COMMANDLOG", "LEN", "large-request"), c("COMMANDLOG", "LEN", "slow")) == (2, 0)
    assert len(c("COMMANDLOG", "GET", 1, "large-request")) == 1
    assert c("COMMANDLOG", "RESET", "large-request") == b"OK"
    assert c("COMMANDLOG", "LEN", "large-request") == 0 != c("COMMANDLOG", "LEN", "large-reply")
    c.executor.set_slowlog(-1, 128, COMMAND_LOGS["large-request"])
    c("SET", "k", "x" * 2_000_000)
    assert c("COMMANDLOG", "LEN", "large-request") == 0
    c.executor.set_slowlog(0, 128)
    c("PING")
    assert c("COMMANDLOG", "GET", 1, "slow")[0][3] == [b"PING"]
    assert c("SLOWLOG", "LEN") == c("COMMANDLOG", "LEN", "slow") - 1
    kinds = "ERR type should be one of the following: slow, large-request, large-reply"
    assert (kinds == c.error("COMMANDLOG", "GET", 1, "x") == c.error("COMMANDLOG", "LEN", "x")
            == c.error("COMMANDLOG", "RESET", "x"))
    assert (c.error("COMMANDLOG", "GET", "x", "x") == c.error("COMMANDLOG", "GET", -2, "slow")
            == "ERR count should be greater than or equal to -1")


def test_memory(c):
    c("SET", "a", "x")
    stats = pairs(c("MEMORY", "STATS"))
    assert stats[b"keys.count"] == 1 and stats[b"dataset.bytes"] > 0 and b"db.0" in stats
    assert c("MEMORY", "DOCTOR") and c("MEMORY", "MALLOC-STATS")
    assert c("MEMORY", "PURGE") == b"OK"


def test_latency_without_samples(c):
    assert ((c("LATENCY", "LATEST"), c("LATENCY", "HISTORY", "x"), c("LATENCY", "RESET"),
             c("LATENCY", "HISTOGRAM", "get")) == ([], [], 0, []))
    assert c.error("LATENCY", "GRAPH", "x") == "ERR No samples available for event 'x'"
    assert b"latency-monitor-threshold" in c("LATENCY", "DOCTOR")
    c("DEBUG", "SLEEP", "0.02")                         # the threshold is 0: nothing is sampled
    assert c("LATENCY", "LATEST") == []


def slept(c, seconds: float) -> None:
    c("DEBUG", "SLEEP", seconds)
    c.now += 1000


def test_latency_events_of_commands(c):
    c.executor.set_slowlog(-1, 128)
    c.executor.set_latency_threshold(20)
    for seconds in (0.03, 0.06, 0.04):
        slept(c, seconds)
    c("SET", "k", "v")                                  # too short
    history = c("LATENCY", "HISTORY", "command")
    assert [at for at, _ in history] == [NOW // 1000 + i for i in range(3)]
    took = [ms for _, ms in history]
    assert took[0] >= 30 and took[1] >= 60 and took[2] >= 40
    assert (c("LATENCY", "LATEST")
            == [[b"command", NOW // 1000 + 2, took[2], max(took)]])
    assert c("SLOWLOG", "LEN") == 0
    lines = c("LATENCY", "GRAPH", "command").decode().splitlines()
    assert (lines[0] == f"command - high {max(took)} ms, low {min(took)} ms "
                        f"(all time high {max(took)} ms)" and lines[1] == "-" * 80)
    assert len(lines) == 2 + 4 + 1 + 2 and lines[-2:] == ["321", "sss"]
    assert lines[2][took.index(max(took))] == "#" and lines[5][took.index(min(took))] == "_"
    assert c("LATENCY", "DOCTOR").startswith(b"command: 3 samples, ")
    assert (c("LATENCY", "HISTORY", "Command"), c("LATENCY", "RESET", "no", "COMMAND", "command"),
            c("LATENCY", "LATEST"), c("LATENCY", "HISTORY", "command")) == ([], 1, [], [])
    slept(c, 0.03)
    assert c("LATENCY", "RESET") == 1 and c("LATENCY", "RESET") == 0
    c.executor.set_latency_threshold(0)
    slept(c, 0.03)
    assert c("LATENCY", "LATEST") == []
    assert b"Events are not sampled" in c("LATENCY", "DOCTOR")


def test_latency_samples_of_one_second_are_one_and_the_newest_160_are_kept(c):
    c.executor.set_latency_threshold(1)
    for seconds in (0.002, 0.03, 0.002):
        c("DEBUG", "SLEEP", seconds)
    [[at, longest]] = c("LATENCY", "HISTORY", "command")
    assert at == NOW // 1000 and longest >= 30
    for _ in range(200):
        slept(c, 0.0015)
    c.executor.set_latency_threshold(0)                 # looking takes time, too
    history = c("LATENCY", "HISTORY", "command")
    assert [at for at, _ in history] == [NOW // 1000 + i for i in range(40, 200)]
    [[_, _, latest, ever]] = c("LATENCY", "LATEST")
    assert latest == history[-1][1] and ever >= longest
    lines = c("LATENCY", "GRAPH", "command").decode().splitlines()
    assert max(map(len, lines)) == 80
    c.now += 100 * 86400_000
    assert "d" in c("LATENCY", "GRAPH", "command").decode().splitlines()[-1]


def test_latency_tells_fast_commands_and_those_in_scripts(c):
    c.executor.set_latency_threshold(1)
    c.executor.scripts_run_all = True
    c("EVAL", "redis.call('DEBUG', 'SLEEP', '0.01')", 0)
    assert [e[0] for e in c("LATENCY", "LATEST")] == [b"command"]
    c("LATENCY", "RESET")
    c("SADD", "s", *range(400_000))                     # a fast command with very much to do
    assert [e[0] for e in c("LATENCY", "LATEST")] == [b"fast-command"]


def test_latency_tracking(c):
    c.executor.latency_tracking = False
    c("SET", "k", "v")
    assert not c.executor.latency_tracking and c("LATENCY", "HISTOGRAM", "set")[1][3] == []
    assert c("INFO", "latencystats") == b"# Latencystats\r\n"
    c.executor.latency_tracking = True
    c("SET", "k", "v")
    assert c("LATENCY", "HISTOGRAM", "set")[1][3][1::2] == [1]


def test_latency_histograms(c):
    c("CONFIG", "RESETSTAT")
    for i in range(300):
        c("SET", "k", i)
    c("DEBUG", "SLEEP", "0.003"), c("CLIENT", "ID"), c("CLIENT", "GETNAME")
    found = {name: dict(zip(v[::2], v[1::2])) for name,
             v in zip(*[iter(c("LATENCY", "HISTOGRAM"))] * 2)}
    assert set(found) == {b"config|resetstat", b"set", b"debug", b"client|id", b"client|getname"}
    bounds = found[b"set"][b"histogram_usec"]
    assert (found[b"set"][b"calls"] == 300 and bounds[-1] == 300
            and bounds[1::2] == sorted(bounds[1::2]))
    assert all(b & (b - 1) == 0 for b in bounds[::2]) and bounds[::2] == sorted(bounds[::2])
    assert found[b"debug"][b"histogram_usec"][0] >= 4096 and found[b"debug"][b"calls"] == 1
    assert (sorted(c("LATENCY", "HISTOGRAM", "client", "SET", "nope")[::2])
            == [b"client|getname", b"client|id", b"set"])
    fields = dict(line.split(":") for line in c("INFO", "latencystats").decode().splitlines()[1:])
    assert fields["latency_percentiles_usec_debug"].startswith("p50=")
    assert float(fields["latency_percentiles_usec_debug"].split("p99=")[1].split(",")[0]) >= 4096


def test_percentiles_of_a_histogram():
    from crdtredis.info import percentile

    took = [0] * 24
    assert percentile(took, 0.5) == 0
    took[3], took[10] = 99, 1
    assert (percentile(took, 0.5), percentile(took, 0.99), percentile(took, 0.999)) == (8, 8, 1024)


def test_debug(c):
    begun = time.perf_counter()
    assert c("DEBUG", "SLEEP", "0.05") == b"OK"
    assert time.perf_counter() - begun >= 0.05
    assert c.error("DEBUG", "SLEEP", "x") == "ERR value is not a valid float"
    for none in ("-1", "nan", "inf", "-inf"):
        assert c("DEBUG", "SLEEP", none) == b"OK"
    assert c.error("DEBUG", "SLEEP", "1e9").startswith("ERR value is out of range")
    assert c("DEBUG", "SET-ACTIVE-EXPIRE", 0) == b"OK" and c.server.engine.active_expire is False
    assert c("DEBUG", "set-active-expire", 1) == b"OK" and c.server.engine.active_expire is True
    assert "not supported" in c.error("DEBUG", "JMAP")
    assert c("DEBUG", "HELP")
    assert (c("DEBUG", "LOG", "x") == b"OK" and c.error("DEBUG", "ERROR", "LOADING so\r\nit is")
            == "LOADING so it is")
    three = c.other(3)
    for name, plain, typed in [
            ("integer", b":12345\r\n", b":12345\r\n"),
            ("double", b"$5\r\n3.141\r\n", b",3.141\r\n"), ("null", b"$-1\r\n", b"_\r\n"),
            ("true", b":1\r\n", b"#t\r\n"), ("false", b":0\r\n", b"#f\r\n"),
            ("set", b"*3\r\n:0\r\n:1\r\n:2\r\n", b"~3\r\n:0\r\n:1\r\n:2\r\n"),
            ("map", b"*6\r\n:0\r\n:0\r\n:1\r\n:1\r\n:2\r\n:0\r\n",
             b"%3\r\n:0\r\n#f\r\n:1\r\n#t\r\n:2\r\n#f\r\n"),
            ("verbatim", b"$25\r\nThis is a verbatim\nstring\r\n",
             b"=29\r\ntxt:This is a verbatim\nstring\r\n"),
            ("bignum", b"$37\r\n1234567999999999999999999999999999999\r\n",
             b"(1234567999999999999999999999999999999\r\n")]:
        assert ((c.raw("DEBUG", "PROTOCOL", name), three.raw("DEBUG", "PROTOCOL", name))
                == (plain, typed))
    text = b"$39\r\nSome real reply following the attribute\r\n"
    assert c.raw("DEBUG", "PROTOCOL", "attrib") == text
    assert (three.raw("DEBUG", "PROTOCOL", "attrib")
            == b"|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n" + text)
    assert (three.raw("DEBUG", "PROTOCOL", "push").startswith(b">2\r\n")
            and "RESP2" in c.error("DEBUG", "PROTOCOL", "push"))
    assert "string|integer" in c.error("DEBUG", "PROTOCOL", "x")


def test_no_modules(c):
    assert c("MODULE", "LIST") == [] and b"LIST" in c("MODULE", "HELP")


def test_help_of_every_container(c):
    table.load()
    for name in {s.container for s in table.COMMANDS.values() if s.container
                 and f"{s.container}|HELP" in table.COMMANDS}:
        lines = c(name, "HELP")
        assert lines[0].startswith(f"{name} <subcommand>".encode()), name
        assert len(lines) >= 5
