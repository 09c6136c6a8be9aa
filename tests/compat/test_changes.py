"""rdb_changes_since_last_save goes up by as much as in redis-server, command by command."""
from __future__ import annotations

import pytest

from tests.respclient import ReplyError

SETUP = ["SET s v", "SET n 5", "RPUSH l a b c", "RPUSH l2 x", "SADD set a b c", "SADD set2 c d",
         "HSET h f 1 g 2", "ZADD z 1 a 2 b 3 c", "ZADD z2 1 x",
         "SET ttl v EX 100", "GEOADD g 1 1 a"]
COMMANDS = [
    "SET s w", "SET s w EX 100", "SET s w NX", "SET new w NX", "SETEX s 10 v", "PSETEX s 1000 v",
    "SETNX s v",
    "SETNX new v", "MSET a 1 b 2", "MSETNX a 1 b 2", "GETSET s x", "GETDEL s", "GETEX s EX 10",
    "GETEX s PERSIST", "GETEX ttl PERSIST", "GETEX s", "APPEND s x", "APPEND s ", "APPEND new ",
    "SETRANGE s 0 x", "SETRANGE s 5 ", "INCR n", "DECRBY n 2", "INCRBYFLOAT n 1.5", "SETBIT s 1 1",
    "SETBIT s 1 0", "BITFIELD s SET u8 0 1 SET u8 8 1", "BITFIELD s GET u8 0", "BITOP AND d s n",
    "DEL s n nope", "UNLINK s", "RENAME s t", "RENAME s n", "RENAMENX s t", "RENAME l l2",
    "COPY s t",
    "COPY l t", "COPY set t", "COPY z t", "COPY h t", "MOVE s 3", "MOVE l 3", "EXPIRE s 10",
    "EXPIRE s -1",
    "EXPIRE l 10", "PERSIST ttl", "PERSIST s", "EXPIRE nope 1", "FLUSHDB", "FLUSHALL", "SWAPDB 0 1",
    "LPUSH l a b", "RPUSHX l a", "RPUSHX nope a", "LPOP l", "LPOP l 2", "LPOP l 10", "RPOP l",
    "LSET l 0 x",
    "LREM l 0 a", "LREM l 0 nope", "LTRIM l 0 0", "LTRIM l 5 9", "LINSERT l BEFORE a x",
    "LINSERT l BEFORE nope x", "LMOVE l l2 LEFT RIGHT", "LMOVE l l LEFT RIGHT", "RPOPLPUSH l l2",
    "BLPOP l 1",
    "BLMOVE l l2 LEFT LEFT 1", "LMPOP 1 l LEFT COUNT 2", "SADD set a", "SADD set a x y",
    "SREM set a b nope",
    "SPOP set", "SPOP set 2", "SPOP set 10", "SMOVE set set2 a", "SMOVE set set2 c",
    "SMOVE set set2 nope",
    "SUNIONSTORE d set set2", "SINTERSTORE d set set2", "SDIFFSTORE d set set2",
    "SINTERSTORE d set nope",
    "SINTERSTORE set2 set nope", "HSET h f 1", "HSET h f 2 x 3", "HSETNX h f 1", "HSETNX h x 1",
    "HINCRBY h f 1", "HINCRBYFLOAT h f 1.5", "HDEL h f g nope", "HMSET h a 1 b 2", "ZADD z 1 a",
    "ZADD z 5 a 6 q", "ZADD z XX 1 q", "ZADD z INCR 0 a", "ZADD z INCR 1 a", "ZINCRBY z 1 a",
    "ZINCRBY z 0 a",
    "ZREM z a b nope", "ZPOPMIN z", "ZPOPMIN z 2", "ZREMRANGEBYRANK z 0 1",
    "ZREMRANGEBYSCORE z 0 9",
    "ZUNIONSTORE d 2 z z2", "ZINTERSTORE d 2 z z2", "ZINTERSTORE z 2 z z2", "ZDIFFSTORE d 2 z z2",
    "ZRANGESTORE d z 0 -1", "ZRANGESTORE z z 5 6", "ZMPOP 1 z MIN COUNT 2", "BZPOPMIN z 1",
    "GEOADD g 1 1 a 2 2 b", "GEOADD g 1 1 a", "GEOSEARCHSTORE d g FROMLONLAT 1 1 BYRADIUS 1 km",
    "SORT l ALPHA STORE d", "SORT nope STORE s", "RESTORE r 0 DUMP", "RESTORE s 0 DUMP REPLACE",
    "GET s",
]


def changes(c) -> int:
    return next(int(line.split(b":")[1]) for line in c("INFO", "persistence").splitlines()
                if line.startswith(b"rdb_changes"))


@pytest.fixture(scope="module")
def ours():
    from tests.real.cluster import Server

    s = Server(appendfsync="no").start()
    yield s
    s.dispose()


@pytest.mark.parametrize("in_exec", [False, True])
def test_changes_are_counted_as_redis_counts_them(reference, ours, in_exec):
    def counted(c, command):
        c("FLUSHALL")
        for line in SETUP:
            c(*line.split())
        argv = [c("DUMP", "l") if word == "DUMP" else word for word in command.split(" ")]
        before = changes(c)
        try:
            if in_exec:
                c("MULTI"), c(*argv), c("EXEC")
            else:
                c(*argv)
        except ReplyError:
            pass
        return changes(c) - before

    with reference.connect() as theirs, ours.connect() as mine:
        for command in COMMANDS:
            assert counted(mine, command) == counted(theirs, command), command
        mine("CONFIG", "RESETSTAT")
        before = changes(mine)
        mine("SET", "k", "v", "EX", 100)
        assert changes(mine) == before + 1
