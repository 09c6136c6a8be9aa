"""Keyspace notifications: which events commands and ops of peers fire."""
import pytest

from crdtredis.commands.table import COMMANDS, EVENTS, load
from crdtredis.kinds import Events
from tests.commands.run import Client, exchange
from tests.respclient import Connection, ReplyError


class Listening(Client):
    """Its events("SET k v", ...) are what the commands fire, as "event key"."""

    def __init__(self, name="a", letters="KEAn", **options):
        super().__init__(name, **options)
        self.executor.notify = Events().from_text(letters)
        self.ear = self.other(3)
        self.ear("PSUBSCRIBE", "__keyevent@*")

    def heard(self) -> list[str]:
        self.executor.serve_waiting()
        data, out = self.ear.session.take_replies(), []
        while data:
            # >4, and four times its length and the word
            *head, data = data.split(b"\r\n", 9)
            assert head[0] == b">4" and head[2] == b"pmessage"
            event, key = head[6].split(b"__:", 1)[1], head[8]
            db = head[6].split(b"@")[1].split(b"_")[0]
            out.append(f"{event.decode()} {key.decode()}" + f"@{db.decode()}" * (db != b"0"))
        return out

    def events(self, *commands) -> list[str]:
        self.heard()
        for command in commands:
            self.raw(*command.split(" "))
        return self.heard()


@pytest.fixture
def c():
    return Listening()


CASES = [
    ("SET k v", "new k,set k"), ("SET k v EX 100", "new k,set k,expire k"),
    ("SET k v NX", "new k,set k"), ("SETEX k 100 v", "new k,set k,expire k"),
    ("PSETEX k 100000 v", "new k,set k,expire k"), ("SETNX k v", "new k,set k"),
    ("GETSET k v", "new k,set k"), ("MSET a 1 b 2 a 3", "new a,set a,new b,set b,set a"),
    ("SET k v;SET k w", "new k,set k,set k"), ("SET k v;GET k;SET k v XX GET", "new k,set k,set k"),
    ("APPEND k v;APPEND k w", "new k,append k,append k"),
    ("SETRANGE k 1 v", "new k,setrange k"), ("SETBIT k 1 1", "new k,setbit k"),
    ("BITFIELD k SET u8 0 1", "new k,setbit k"),
    ("XADD k 1-1 f v;XADD k MAXLEN 1 2-1 f v;XTRIM k MAXLEN 0;XTRIM k MAXLEN 0",
     "new k,xadd k,xadd k,xtrim k,xtrim k"),
    ("XADD k 1-1 f v;XDEL k 1-1;XDEL k 1-1;XSETID k 9-9", "new k,xadd k,xdel k,xsetid k"),
    ("XGROUP CREATE k g $ MKSTREAM;XGROUP CREATECONSUMER k g a;XGROUP CREATECONSUMER k g a;"
     "XGROUP SETID k g 0;XGROUP DELCONSUMER k g a;XGROUP DELCONSUMER k g a",
     "new k,xgroup-create k,xgroup-createconsumer k,xgroup-setid k,xgroup-delconsumer k"),
    ("XGROUP CREATE k g $ MKSTREAM;XADD k 1-1 f v;XREADGROUP GROUP g a STREAMS k >;"
     "XREADGROUP GROUP g a STREAMS k >;XCLAIM k g c 0 1-1;"
     "XAUTOCLAIM k g a 0 0;XACK k g 1-1;XGROUP DESTROY k g;XGROUP DESTROY k g",
     "new k,xgroup-create k,xadd k,xgroup-createconsumer k,xgroup-createconsumer k,"
     "xgroup-destroy k"),
    ("INCR k;DECRBY k 3;INCRBYFLOAT k 1.5", "new k,incrby k,incrby k,incrbyfloat k"),
    ("SET k v;DEL k k x", "new k,set k,del k"), ("SET k v;GETDEL k", "new k,set k,del k"),
    ("SET k v;EXPIRE k 100;PERSIST k", "new k,set k,expire k,persist k"),
    ("SET k v;EXPIRE k -1", "new k,set k,del k"),
    ("SET k v;GETEX k EX 100;GETEX k PERSIST;GETEX k", "new k,set k,expire k,persist k"),
    ("SET k v;EXPIRE k 100;INCR n;APPEND k w", "new k,set k,expire k,new n,incrby n,append k"),
    ("SET k v;RENAME k l", "new k,set k,new l,rename_from k,rename_to l"),
    ("SET k v;SET l w;RENAME k l", "new k,set k,new l,set l,new l,rename_from k,rename_to l"),
    ("SET k v;MOVE k 1", "new k,set k,new k@1,move_from k,move_to k@1"),
    ("SET k v;COPY k l", "new k,set k,new l,copy_to l"),
    ("LPUSH k a b;RPUSH k c;LPOP k;RPOP k 2", "new k,lpush k,rpush k,lpop k,rpop k,del k"),
    ("LPUSHX k a;RPUSH k a;LINSERT k BEFORE a b;LSET k 0 c;LREM k 0 c;LTRIM k 5 6",
     "new k,rpush k,linsert k,lset k,lrem k,ltrim k,del k"),
    ("RPUSH k a b;LMOVE k l LEFT RIGHT;RPOPLPUSH k l",
     "new k,rpush k,new l,rpush l,lpop k,lpush l,rpop k,del k"),
    ("RPUSH k a b;RPOPLPUSH k k", "new k,rpush k,lpush k,rpop k"),
    ("RPUSH k a b;LMPOP 1 k RIGHT;BLMPOP 0 2 x k LEFT", "new k,rpush k,rpop k,lpop k,del k"),
    ("RPUSH k a;BLPOP k 0", "new k,rpush k,lpop k,del k"),
    ("HSET k a 1 b 2;HSETNX k c 1;HINCRBY k a 1;HINCRBYFLOAT k a 1.5;HDEL k a;HDEL k b c",
     "new k,hset k,hset k,hincrby k,hincrbyfloat k,hdel k,hdel k,del k"),
    ("SADD k a b c;SADD k a;SREM k x;SREM k a;SPOP k;SPOP k",
     "new k,sadd k,srem k,spop k,spop k,del k"),
    ("SADD k a;SMOVE k l a", "new k,sadd k,srem k,del k,new l,sadd l"),
    ("SADD k a b;SADD l b;SMOVE k l b", "new k,sadd k,new l,sadd l,srem k"),
    ("SADD k a;SINTERSTORE d k;SDIFFSTORE d k k", "new k,sadd k,new d,sinterstore d,del d"),
    ("SADD k a;SUNIONSTORE d k;SORT k ALPHA STORE d",
     "new k,sadd k,new d,sunionstore d,sortstore d"),
    ("ZADD k 1 a 2 b;ZADD k INCR 1 a;ZINCRBY k 1 a;ZADD k 2 b;ZREM k a;ZPOPMIN k",
     "new k,zadd k,zincr k,zincr k,zrem k,zpopmin k,del k"),
    ("ZADD k 1 a 2 b 3 c 4 d 5 e;ZREMRANGEBYSCORE k 1 1;ZREMRANGEBYRANK k 0 0;"
     "ZREMRANGEBYLEX k - [c;ZPOPMAX k;ZMPOP 1 k MAX",
     "new k,zadd k,zremrangebyscore k,zremrangebyrank k,zremrangebylex k,zpopmax k,"
     "zpopmax k,del k"),
    ("ZADD k 1 a;ZUNIONSTORE d 1 k;ZINTERSTORE d 1 k;ZRANGESTORE d k 0 -1;ZDIFFSTORE d 2 k k",
     "new k,zadd k,new d,zunionstore d,zinterstore d,zrangestore d,del d"),
    ("GEOADD k 1 1 a;GEOSEARCHSTORE d k FROMMEMBER a BYRADIUS 1 km ASC;"
     "GEORADIUS k 1 1 1 km STORE d", "new k,zadd k,new d,geosearchstore d,georadiusstore d"),
    ("SET k v;BITOP NOT d k;BITOP AND d x y", "new k,set k,new d,set d,del d"),
    ("SET k v;RPUSH k x", "new k,set k"), ("SET k v;FLUSHALL", "new k,set k"),
    ("SET k v;SWAPDB 0 1;SET l v", "new k,set k,new l,set l"),
    ("HSET k a 1;SET k v", "new k,hset k,set k"),
    ("EVAL redis.call('set',KEYS[1],1)redis.call('del',KEYS[1]) 1 k", "new k,set k,del k"),
    ("EVAL redis.call('set',KEYS[1],1)redis.call('swapdb',0,1)redis.call('set',KEYS[1],1) 1 k",
     "new k,set k,new k,set k"),
    ("MULTI;SET k v;INCR n;EXEC", "new k,set k,new n,incrby n"),
    ("MULTI;SET k v;SWAPDB 0 1;SET k v;EXEC", "new k,set k,new k,set k"),
]


# Of commands that the redis-server of the tests does not have: events as Redis 8.4, 8.8 and
# 8.10 fire them, and Valkey 9.
NEWER = [
    ("SET k v;SET k w IFEQ v;SET k x IFEQ v", "new k,set k,set k"),
    ("SET k EX;SET k w IFEQ EX KEEPTTL", "new k,set k,set k"),
    ("SETEX k 9 EX;SET k w IFEQ EX KEEPTTL;SET k w IFNE EX EX 9",
     "new k,set k,expire k,set k,set k,expire k"),
    ("MSETEX 2 k v l w", "new k,set k,new l,set l"),
    ("MSETEX 2 k EX EX w KEEPTTL", "new k,set k,new EX,set EX"),
    ("MSETEX 2 k v l w EX 9", "new k,set k,expire k,new l,set l,expire l"),
    ("SET k v;DELEX k IFEQ w;DELEX k IFEQ v", "new k,set k,del k"),
    ("SET k v;DELIFEQ k w;DELIFEQ k v", "new k,set k,del k"),
    ("RPUSH k a b;DELEX k", "new k,rpush k,del k"),
    ("INCREX k;INCREX k BYFLOAT 0.5", "new k,incrby k,incrbyfloat k"),
    ("INCREX k EX 9;INCREX k EX 20 ENX;INCREX k PERSIST;INCREX k PERSIST",
     "new k,incrby k,expire k,incrby k,incrby k,persist k,incrby k"),
    ("INCREX k;INCREX k UBOUND 1;INCREX k EXAT 1", "new k,incrby k,del k"),
    ("HSET k a 1 b 2;HGETDEL k FIELDS 2 a x;HGETDEL k FIELDS 1 x;HGETDEL k FIELDS 1 b",
     "new k,hset k,hdel k,hdel k,del k"),
    ("HSET k a 1 b 2;HEXPIRE k 9 FIELDS 1 a;HPERSIST k FIELDS 2 a b;HPERSIST k FIELDS 1 a;"
     "HEXPIRE k 0 FIELDS 1 a;HEXPIRE k 9 XX FIELDS 1 b;HEXPIRE k 0 FIELDS 1 b",
     "new k,hset k,hexpire k,hpersist k,hdel k,hdel k,del k"),
    ("HSET k a 1 b 2;HGETEX k FIELDS 1 a;HGETEX k EX 9 FIELDS 1 a;HINCRBY k a 1;"
     "HGETEX k PERSIST FIELDS 1 a;HGETEX k PX 0 FIELDS 1 a",
     "new k,hset k,hexpire k,hincrby k,hpersist k,hdel k"),
    ("HSETEX k EX 9 FIELDS 1 a 1;HSETEX k KEEPTTL FIELDS 1 a 2;HSETEX k FNX FIELDS 1 a 2;"
     "HSETEX k FIELDS 1 a 3", "new k,hset k,hexpire k,hset k,hset k"),
    ("RPUSH k a b c;LMOVEM k l LEFT RIGHT;LMOVEM k l RIGHT LEFT COUNT 5 OBO",
     "new k,rpush k,new l,rpush l,lpop k,lpush l,rpop k,del k"),
    ("RPUSH k a b;LMOVEM k k LEFT RIGHT COUNT 2 BULK;BLMOVEM k l LEFT LEFT 0 EXACTLY 2 OBO;"
     "LMOVEM k l LEFT LEFT", "new k,rpush k,rpush k,lpop k,new l,lpush l,lpop k,del k"),
]


@pytest.mark.parametrize("commands, events", CASES + NEWER,
                         ids=[case[0][:60] for case in CASES + NEWER])
def test_events_of_commands(c, commands, events):
    assert c.events(*commands.split(";")) == events.split(",")


@pytest.mark.parametrize("commands", [case[0] for case in CASES
                                      if "EVAL" not in case[0] and "FLUSHALL" not in case[0]],
                         ids=[case[0][:60] for case in CASES
                              if "EVAL" not in case[0] and "FLUSHALL" not in case[0]])
def test_events_are_those_of_redis(c, reference, commands):
    """Those that redis-server fires for the same commands."""
    with Connection(reference.port) as r, Connection(reference.port, resp=3) as ear:
        r("FLUSHALL")
        r("CONFIG", "SET", "notify-keyspace-events", "KEAn")
        try:
            ear("PSUBSCRIBE", "__keyevent@*")
            for command in commands.split(";"):
                r.send(*command.split(" "))
                r.read()
            r("PUBLISH", "__keyevent@0__:end", "")
            found = []
            while True:
                _, _, channel, key = ear.read()
                if channel.endswith(b":end"):
                    break
                db, event = channel[11:].split(b"__:")
                found.append(f"{event.decode()} {key.decode()}" + f"@{db.decode()}" * (db != b"0"))
        finally:
            r("CONFIG", "SET", "notify-keyspace-events", "")
    assert c.events(*commands.split(";")) == found


def test_both_channels(c):
    ear = c.other(3)
    ear("PSUBSCRIBE", "__key*")
    c("SET", "k", "v")
    bulks = ear.session.take_replies().split(b"\r\n")
    assert [w for w in bulks if w.startswith(b"__key") and b"*" not in w] == [
        b"__keyspace@0__:k", b"__keyevent@0__:new", b"__keyspace@0__:k", b"__keyevent@0__:set"]


@pytest.mark.parametrize("letters, expected", [
    ("", []), ("A", []), ("Kg$", []), ("E$", ["set k"]), ("Eg", ["expire k", "del k"]),
    ("El", ["lpush l"]), ("En", ["new k", "new l"]), ("Em", ["keymiss x"])])
def test_only_what_is_asked_for(c, letters, expected):
    c.executor.notify = Events().from_text(letters)
    assert c.events("SET k v", "GET x", "GET k", "EXPIRE k 100", "LPUSH l a", "DEL k") == expected


def test_misses(c):
    c.executor.notify = "Em"
    c("SET", "k", "v")
    assert c.events("GET x", "MGET a k b", "HGET h f", "EXISTS q", "STRLEN s", "SET y 1") == [
        "keymiss x", "keymiss a", "keymiss b", "keymiss h", "keymiss q", "keymiss s"]


def test_expired_keys(c):
    c.events("SET k v PX 10", "SET l v PX 10", "SET m v PX 10")
    c.now += 100
    assert c.events("GET k") == []
    # a write to a key that has expired removes it first
    assert c.events("SET l w") == ["expired l", "new l", "set l"]
    c.replica.tick()
    assert sorted(c.heard()) == ["expired k", "expired m"]


def test_expired_fields(c):
    peer = Listening("b")
    c.events("HSET h a 1 b 2", "HPEXPIRE h 10 FIELDS 1 a", "HPEXPIRE h 200 FIELDS 1 b")
    exchange(c, peer)
    peer.heard()
    c.now += 100
    peer.now += 100
    assert c.events("HLEN h") == []
    c.replica.tick()
    assert c.heard() == ["hexpired h"]
    c.now += 200
    c.replica.tick()
    assert c.heard() == ["hexpired h", "del h"]
    peer.now += 200
    exchange(c, peer)
    assert peer.heard() == [], "to others they were hidden already"


def test_ops_of_peers_fire_here():
    a, b = Client("a"), Listening("b")
    for commands, events in (
            ("SET k v", ["new k", "set k"]), ("INCRBY n 5", ["new n", "incrby n"]),
            ("EXPIRE k 100", ["expire k"]), ("PERSIST k", ["persist k"]), ("DEL k", ["del k"]),
            ("HSET h a 1 b 2", ["new h", "hset h"]), ("HINCRBY h n 1", ["hincrby h"]),
            ("HDEL h a", ["hdel h"]), ("HEXPIRE h 9 FIELDS 1 b", ["hexpire h"]),
            ("HINCRBY h b 1", ["hincrby h"]), ("HPERSIST h FIELDS 1 b", ["hpersist h"]),
            ("HDEL h b n", ["del h"]),
            ("SADD s a b", ["new s", "sadd s"]), ("SREM s a", ["srem s"]), ("SPOP s", ["del s"]),
            ("ZADD z 1 a 2 b", ["new z", "zadd z"]), ("ZINCRBY z 1 a", ["zincr z"]),
            ("ZREM z a", ["zrem z"]), ("RPUSH l a b", ["new l", "linsert l"]),
            ("XADD x 1-1 f v", ["new x", "xadd x"]), ("XADD x 2-1 f v", ["xadd x"]),
            ("XDEL x 2-1", ["xdel x"]), ("XADD x MAXLEN 1 3-1 f v", ["xadd x", "xtrim x"]),
            ("XTRIM x MAXLEN 0", ["xtrim x"]), ("XSETID x 9-9", ["xsetid x"]),
            ("XGROUP CREATE x g 0", ["xgroup-create x"]), ("XGROUP CREATECONSUMER x g a", []),
            ("DEL x", ["del x"]), ("LPOP l", ["lrem l"]), ("DEL l z", ["del l", "del z"]),
            ("SET k v;SET k w", ["new k", "set k", "set k"])):
        for command in commands.split(";"):
            a.raw(*command.split())
        exchange(a, b)
        assert b.heard() == events, commands


def test_what_changes_nothing_that_is_visible_fires_nothing():
    a, b = Client("a"), Listening("b")
    a("SET", "k", "v", "PX", 10)
    exchange(a, b)
    assert b.heard() == ["new k", "set k"]
    for x in (a, b):
        x.now += 1000
    a.replica.tick()
    exchange(a, b)
    assert b.heard() == [], "it was hidden here already"


def test_local_and_remote():
    a = Client("a")
    local, remote, both = (Listening(name, letters="KEAn" + letters)
                           for name, letters in (("b", "L"), ("c", "R"), ("d", "LR")))
    a("SET", "k", "v")
    exchange(a, local, remote, both)
    for x, first, second in ((local, [], ["set k"]), (remote, ["new k", "set k"], []),
                             (both, ["new k", "set k"], ["set k"])):
        assert x.heard() == first and x.events("SET k w") == second


def test_recovery_fires_nothing():
    a, b = Client("a"), Listening("b")
    a("SET", "k", "v")
    b.replica.recovering = True
    b.replica.receive(a.replica.take_ops())
    b.replica.recovering = False
    assert b.heard() == [] and b("GET", "k") == b"v"


def test_notices_are_bounded():
    a, b = Client("a"), Listening("b")
    name = "x" * 100_000
    for i in range(600):
        a("SET", f"{name}{i}", "v")
    b.replica.receive(a.replica.take_ops())
    heard = b.heard()
    assert 2 * 300 < len(heard) < 2 * 340
    assert b.events("SET k v") == ["new k", "set k"]


def test_a_client_hears_of_its_own_writes_behind_its_replies(c):
    c.executor.notify = "E$"
    s = c.other(3)
    s("SUBSCRIBE", "__keyevent@0__:set")
    push = b">3\r\n$7\r\nmessage\r\n$18\r\n__keyevent@0__:set\r\n$1\r\nk\r\n"
    assert s.raw("SET", "k", "v") == b"+OK\r\n" + push
    s("MULTI")
    s("SET", "k", "v")
    s("PING")
    assert s.raw("EXEC") == b"*2\r\n+OK\r\n+PONG\r\n" + push
    assert s.raw("EVAL", "redis.call('SET', 'k', 'v') return 1", 0) == b":1\r\n" + push


def test_the_table_names_commands_that_write():
    load()
    for names in EVENTS.values():
        for name in names.split():
            assert "write" in COMMANDS[name.upper()].flags, name


def test_errors_are_replies(c):
    with pytest.raises(ReplyError):
        c("SET", "k")
    assert c.heard() == []
