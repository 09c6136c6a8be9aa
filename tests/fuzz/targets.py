"""What is fuzzed: each target takes any bytes and raises, or is killed by a sanitizer, when
something is wrong with the code.

A target checks more than "no crash": what must hold between two ways of doing the same thing.
`seeds` gives each a corpus of real traffic to start from. Examples that once failed (of dumps: one
sound and one damaged payload of each form, found by fuzzing) lie in tests/fuzz/examples/<target>/
and are run by every test run (test_examples.py).
"""
from __future__ import annotations

import random
import re
import struct

from crdtredis._core import (Replica, StateCheck, StateJoin, StateReader, StateWriter, batch_ranges,
                             probe_records, record, record_find, records_join, shared_batch,
                             slice_batch)
from crdtredis._engine import Executor, Native
from crdtredis._lua import Scripts
from crdtredis._resp import (ProtocolError, RequestParser, read_double, read_int, read_long_double,
                             show_double)
from crdtredis.commands import rdb
from crdtredis.commands.rdb import sealed
from crdtredis.commands.table import load
from crdtredis.errors import CausalBufferFull, DamagedBatch, DamagedState, UndeclaredActor
from crdtredis.replication import crdtredis_pb2 as pb
from tests.commands import extremes, payloads
from tests.commands.run import Client, exchange
from tests.compat import generators_dump, harness, scripts as random_scripts, waiting
from tests.core import hyperloglog
from tests.core.compact import compact
from tests.lua import generated
from tests.resp import blobs
from tests.respclient import ReplyError, decode, encode
from tests.simulation.views import Client as Reader

NOW = 1_700_000_000_000
SCORES = [struct.pack("<d", x) for x in (0.0, -0.0, 0.1, 5e-324, 1.7e308, float("inf"),
                                         float("-inf"))]


# ---- clients -------------------------------------------------------------------------------------

def requests(data: bytes) -> None:
    """The commands and the error are the same in one piece and in many; what was parsed, sent
    again, is parsed the same."""
    if len(data) < 2:
        return
    authenticated, step, data = data[0] & 1, data[1] % 23 + 1, data[2:]

    def parse(pieces):
        parser, commands = RequestParser(max_bulk=1 << 20, authenticated=authenticated), []
        for i, piece in enumerate(pieces):
            try:
                commands += parser.feed(piece)
            except ProtocolError as e:
                return commands + e.commands, str(e)
            if i % 5 == 4:
                parser.trim()
        return commands, None

    whole = commands, error = parse([data])
    assert parse([data[i:i + step] for i in range(0, len(data), step)]) == whole
    commands = [c for c in commands if c]
    if authenticated:
        assert parse([b"".join(encode(*c) for c in commands)]) == (commands, None)


def numbers(data: bytes) -> None:
    value = read_int(data)
    canonical = re.fullmatch(rb"0|-?[1-9][0-9]*", data) and -2**63 <= int(data) < 2**63
    assert value == (int(data) if canonical else None)
    real = read_double(data)
    if (re.fullmatch(rb"[+-]?[0-9]+(\.[0-9]*)?(e[+-]?[0-9]{1,3})?", data)
        and 0 < abs(float(data)) < float("inf") and len(data) < 5120):
        assert real == float(data)
    if real is not None:
        assert read_double(show_double(real)) == real
    long = read_long_double(data)
    assert long is None or read_long_double(long) == long


NATIVE = {name.encode() for name, spec in load().items() if isinstance(spec.handler, Native)}


def worth_running(argv) -> bool:
    """Native, and not one that makes a value of many megabytes."""
    name = argv[0].upper() if argv else b""
    return (name in NATIVE and not ((b"SET" in name or b"BIT" in name)
                                 and any(re.search(rb"\d{7}", a) for a in argv)))


def commands(data: bytes) -> None:
    """The commands written in Cython: each gives one whole reply, and the ops give another replica
    the same state. While one session waits for a key another goes on; when all of them wait, the
    first is unblocked."""
    if not data:
        return
    replica, other = fresh("a"), fresh("b")
    executor = Executor(replica)
    sessions = [executor.session(2 + data[0] % 2) for _ in range(3)]
    for argv in requests_in(data[1:]):
        if worth_running(argv):
            replica.now += 7
            executor.expire_deferred()
            session = next((s for s in sessions if not s.blocked), sessions[0])
            session.unblock(True)
            if reply := session.take_replies():
                decode(reply)
            if reply := executor.execute(session, argv):
                decode(reply)
            replica.check()
    for session in sessions:
        session.unblock()
        if reply := session.take_replies():
            decode(reply)
    other.now = replica.now
    if made := replica.take_ops():
        assert receive(other, made)
    assert (replica.digest(), replica.clock()) == (other.digest(), other.clock())


def dumps(data: bytes) -> None:
    """RESTORE of any bytes behind a right checksum: refused without a trace, or a value that DUMP
    gives again and that other replicas get."""
    c = Client()
    before = c.replica.digest(), c.replica.clock()
    reply = decode(c.raw("RESTORE", "k", 0, sealed(data)))
    c.replica.check()
    if reply != b"OK":
        assert (str(reply) == "ERR Bad data format" and (c.replica.digest(), c.replica.clock())
                == before)
        return
    value = payloads.read(c, "k")
    assert value is not None and value != []
    assert c("RESTORE", "copy", 0, c("DUMP", "k")) == b"OK" and payloads.read(c, "copy") == value
    other = Client("b")
    exchange(c, other)
    assert payloads.read(other, "k") == value and other.replica.digest() == c.replica.digest()


def snapshots(data: bytes) -> None:
    """Where a value and a text of a snapshot end: as RESTORE sees it, wherever they stand, and
    whatever follows."""
    if not data:
        return
    kind, body = data[0], data[1:]
    ends = [rdb_end(rdb.value_end, before + body, len(before), kind) for before in (b"", b"before")]
    assert ends[0] == ends[1]
    if ends[0] is not None and ends[0] >= 0:
        assert rdb_end(rdb.value_end, body[:ends[0]], 0, kind) == ends[0]
        for cut in {0, ends[0] // 2, ends[0] - 1} - {-1, ends[0]}:
            assert rdb_end(rdb.value_end, body[:cut], 0, kind) is None
        c = Client()
        reply = c.raw("RESTORE", "k", 0, sealed(data[:1 + ends[0]]))
        assert reply in (b"+OK\r\n", b"-ERR Bad data format\r\n")
    else:
        assert Client().error("RESTORE", "k", 0, sealed(data)) == "ERR Bad data format"
    for read in (rdb.text_at, rdb.length_at):
        here, there = (rdb_end(read, before + body, len(before)) for before in (b"", b"before"))
        assert here == there and (here is None or rdb_end(read, body[:here[1]], 0) == here)


def rdb_end(read, data: bytes, at: int, *kind):
    """What it answers, places counted from `at`; None where the bytes are damaged, -1 where the
    type is not taken."""
    try:
        found = read(data, at, *kind)
    except ValueError:
        return None
    except NotImplementedError:
        return -1
    return (found[0], found[1] - at) if isinstance(found, tuple) else found - at


# ---- scripts -------------------------------------------------------------------------------------

# Are two values the same? What a table is found by in a table is not compared.
SAME = """
local function same(a, b)
    if type(a) ~= 'table' or type(b) ~= 'table' then return a == b or (a ~= a and b ~= b) end
    for k, v in pairs(a) do
        if type(k) ~= 'table' and not same(v, b[k]) then return false end
    end
    for k in pairs(b) do if type(k) ~= 'table' and a[k] == nil then return false end end
    return true
end
"""
# What was read and is written and read again is the same as that, written and read.
LIBRARIES = ["""
local ok, v = pcall(cjson.decode, ARGV[1])
if not ok then return 'refused' end
local ok, text = pcall(cjson.encode, v)
if not ok then return 'refused' end
local again = cjson.decode(text)
return same(again, cjson.decode(cjson.encode(again)))
""", """
local read = {pcall(cmsgpack.unpack, ARGV[1])}
if not read[1] or table.maxn(read) == 1 then return 'refused' end
-- what lies too deep is packed as nil, which is no key
local again = {pcall(cmsgpack.unpack, cmsgpack.pack(unpack(read, 2, table.maxn(read))))}
if not table.remove(again, 1) then return 'refused' end
return same(again, {cmsgpack.unpack(cmsgpack.pack(unpack(again, 1, table.maxn(again))))})
""", """
local at, limit, out = 0, 1 + tonumber(ARGV[2]), 0
while at >= 0 and out < 100 do
    local read = {pcall(cmsgpack.unpack_limit, ARGV[1], limit, at)}
    if not read[1] then return 'refused' end
    if type(read[2]) ~= 'number' or #read > limit + 2 or (read[2] >= 0 and read[2] <= at)
       or read[2] > #ARGV[1] then return false end
    at, out = read[2], out + 1
end
return true
""", """
local n = tonumber(ARGV[2])
local format, text = ARGV[1]:sub(1, n), ARGV[1]:sub(n + 1)
local ok, size = pcall(struct.size, format)
local read = {pcall(struct.unpack, format, text)}
if not read[1] then return 'refused' end
if read[#read] > #text + 1 then return false end
local values = {unpack(read, 2, #read - 1)}
local ok, made = pcall(struct.pack, format, unpack(values))
if not ok then return 'refused' end
if size and ok and #made ~= size and not format:find('[sc]') then return false end
local again = {struct.unpack(format, made)}
again[#again] = nil
local once_more = {struct.unpack(format, struct.pack(format, unpack(again)))}
once_more[#once_more] = nil
return same(again, once_more)
"""]
KEPT = {}                                   # a server, which has compiled them


def libraries(data: bytes) -> None:
    """cjson, cmsgpack and struct read any bytes, or refuse them; the first two bytes choose."""
    if len(data) < 2:
        return
    c = KEPT.get("client") or KEPT.setdefault("client", Client())
    reply = c("EVAL", SAME + LIBRARIES[data[0] % len(LIBRARIES)], 0, data[2:], data[1] % 16)
    assert reply in (b"refused", 1), (reply, data)


def scripts(data: bytes) -> None:
    """A program, generated or any bytes at all: it ends, its reply is whole, what all scripts share
    is what it was, and what it wrote another replica takes."""
    if len(data) < 2:
        return
    c, other = Client(), Client("b")
    vm = Scripts(call=generated.calling(c), tick=lambda: True, most=16 << 20, patience=60_000)
    shared = vm.load(generated.SHARED)
    before = vm.run(shared)
    text = data[1:] if data[0] & 1 else generated.script(generated.Dice(data[1:])).encode()
    try:
        script = vm.load(text)
    except ValueError:
        assert data[0] & 1, text
        return
    vm.patience = 1
    decode(vm.run(script, keys=[b"k"], args=[b"a"], resp=2 + (data[0] >> 1 & 1)))
    vm.patience = 60_000
    assert vm.run(shared) == before
    c("RESET")
    c.replica.check()
    exchange(c, other)
    assert c.replica.digest() == other.replica.digest()


# ---- peers ---------------------------------------------------------------------------------------

def receive(replica: Replica, batch: bytes) -> bool:
    """True when the replica took all of it."""
    try:
        replica.receive(batch)
        return True
    except (DamagedBatch, UndeclaredActor, CausalBufferFull):
        return False
    finally:
        replica.check()


def fresh(name: str) -> Replica:
    replica = Replica(name, 1, seed=1, pending_limit=100_000)
    replica.now = NOW
    return replica


def images(data: bytes) -> None:
    """Of any string that says it is a HyperLogLog the commands say what a naive reader does, and
    show it together with one that another replica has made meanwhile."""
    a, b, other = fresh("a"), fresh("b"), hyperloglog.made_of("a", "b")
    a.declare(b.id, b.epoch)
    b.declare(a.id, a.epoch)
    client, peer, text = Reader(a, Executor(a)), Reader(b, Executor(b)), b"HYLL" + data
    client("SET", "h", text)
    peer("SET", "h", other)
    there = hyperloglog.registers(text)
    told = client("PFDEBUG", "GETREG", "h")
    assert told == there if there else isinstance(told, ReplyError)
    client("SET", "h", text)
    receive(a, b.take_ops())
    receive(b, a.take_ops())
    assert client("GET", "h") == peer("GET", "h") == hyperloglog.shown([text, other])
    assert client("PFCOUNT", "h") == peer("PFCOUNT", "h")
    client("SET", "i", text)
    for argv in (("PFADD", "i", "c", "d"), ("PFCOUNT", "i"), ("PFCOUNT", "i", "h"),
                 ("PFMERGE", "h", "i"), ("PFDEBUG", "DECODE", "i"), ("PFDEBUG", "TODENSE", "i"),
                 ("PFADD", "i", "e"), ("PFCOUNT", "i")):
        client(*argv)
    a.check()


def ops(data: bytes) -> None:
    """Whatever a peer sends, the state stays sound; sent again it changes nothing; what is handed
    on gives another replica the same state."""
    a, b = fresh("a"), fresh("b")
    whole = receive(a, data)
    state, clock, handed_on = a.digest(), a.clock(), a.take_ops()
    if whole:
        assert receive(a, data) and (a.digest(), a.clock()) == (state, clock)
    if handed_on:
        assert receive(b, handed_on)
        assert (b.digest(), b.clock()) == (state, clock)
    a.now += 1 << 40
    a.tick()
    a.collect(1000)
    a.check()


def hostile(data: bytes) -> None:
    """Commands on top of what a peer has sent, whatever that was: the ops they make are accepted by
    others, and give them the same state."""
    size = int.from_bytes(data[:2], "little")
    batch, text = data[2:2 + size], data[2 + size:]
    if not text:
        return
    a, b, late = fresh("a"), fresh("b"), fresh("c")
    whole = receive(a, batch)
    executor = Executor(a)
    for argv in requests_in(text):
        if worth_running(argv):
            a.now += 7
            session = executor.session()
            if reply := executor.execute(session, argv):
                assert not reply.startswith(b"-ERR a result of this command")
                decode(reply)
            session.unblock()
            a.check()
    a.now += 1 << 35                                        # a year: what has a deadline goes
    a.tick()
    a.check()
    b.now = late.now = a.now
    made = a.take_ops()
    if made:
        assert receive(b, made)
    assert (a.digest(), a.clock()) == (b.digest(), b.clock())
    if whole and made and not a.pending()["ops"]:
        # as a has always known itself, whom the batch may name
        late.declare("a", 1)
        assert receive(late, batch) and receive(late, made)
        assert (a.digest(), a.clock()) == (late.digest(), late.clock())


def requests_in(data: bytes) -> list:
    try:
        return RequestParser(max_bulk=100_000).feed(data)
    except ProtocolError as e:
        return e.commands


def batches(data: bytes) -> None:
    """The sync thread's view of the bytes agrees with itself: cutting off what a clock covers
    leaves exactly the rest."""
    try:
        ranges = batch_ranges(data)
    except DamagedBatch:
        ranges = None
    try:
        same = slice_batch(data, {})
    except DamagedBatch:
        same = None
    if ranges is None:
        return
    assert same is not None
    assert batch_ranges(same) == ranges or not all(first for _, first, _ in ranges)
    half = {actor: (first + last) // 2 for actor, first, last in ranges}
    for actor, first, _ in batch_ranges(slice_batch(data, half)):
        assert first > half.get(actor, 0)


def halves(data: bytes) -> None:
    """What others may have of a log. Any bytes: nothing of what stays at home is left, the rest is
    all there, and to leave it out again changes nothing. As commands on two kinds of keys: others
    come to hold what is not local here, and a replica that recovers holds all."""
    try:
        shared = shared_batch(data)
    except DamagedBatch:
        shared = None
    try:
        ranges = batch_ranges(data)
    except DamagedBatch:
        ranges = None
    if shared is not None:
        assert shared_batch(shared) == shared
        if ranges is not None:
            assert batch_ranges(shared) == [r for r in ranges if r[0] != HOME_ACTOR]
    if ranges is not None:
        assert shared is not None
    a, b, again = fresh("a"), fresh("b"), Replica("a", 2, seed=3)
    a.local_keys = again.local_keys = [b"h*", b"l", b"n"]
    executor = Executor(a)
    session, log = executor.session(), b""
    for argv in requests_in(data):
        if worth_running(argv):
            a.now += 7
            executor.execute(session, argv)
            session.unblock()
            session.take_replies()
            log += a.take_ops()
    shared = shared_batch(log)
    assert batch_ranges(shared) == [r for r in batch_ranges(log) if r[0] != HOME_ACTOR]
    b.now = again.now = a.now
    assert receive(b, shared) and b.digest() == a.digest()
    again.recovering = True
    assert receive(again, log)
    again.recovering = False
    assert (again.digest(), again.clock_ids(home=True)) == (a.digest(), a.clock_ids(home=True))
    assert [again.keys(db) for db in range(33)] == [a.keys(db) for db in range(33)]
    assert not any(b.keys(db)[1] for db in range(17, 33))


HOME_ACTOR = 0x656d6f68                     # of the ops on keys that stay at home


# ---- files ---------------------------------------------------------------------------------------

def states(data: bytes) -> None:
    """Whatever a stream of state says, what is taken of it is sound; a whole one is given out again
    as the same state; and ops on top of it are taken by whoever took it, too."""
    messages, status, _ = probe_records(data)
    a = Replica("a", 1 << 60, seed=1)
    a.now, a.recovering = NOW, True
    if not take_all(a, messages):
        return
    again = Replica("a", 1 << 60, seed=3)
    again.now, again.recovering = NOW, True
    walk, copy = StateWriter(a), []
    while record := walk.next(300):
        copy += probe_records(record)[0]
    assert take_all(again, copy)
    assert (a.digest(), a.clock()) == (again.digest(), again.clock())
    a.recovering = again.recovering = False
    executor = Executor(a)
    for argv in ON_STATES:
        a.now += 7
        executor.execute(executor.session(), list(argv))
    a.check()
    again.now = a.now
    if made := a.take_ops():
        other = Replica("b", 1, seed=3)
        other.now, other.recovering = a.now, True
        assert take_all(other, messages)
        other.recovering = False
        assert receive(other, made)
        assert other.digest() == a.digest()


def joins(data: bytes) -> None:
    """What a StateCheck accepts of a stream of state and of the ops behind it, a replica that holds
    other things joins without a complaint, in small steps, and is sound then; and its state can be
    given out and taken in. (A refused stream leaves nothing behind.) The first byte chooses the
    steps; what follows the records up to the end is the ops."""
    if not data:
        return
    records, _, rest = data[1:].partition(BEHIND)
    messages, _, _ = probe_records(records)
    r = held()
    before = r.digest(), r.clock()
    try:
        check = StateCheck(r)
        for message in messages:
            check.take(message)
        if rest:
            check.tail(rest)
    except DamagedState:
        r.check()
        assert (r.digest(), r.clock()) == before
        return
    if not check.over:
        return
    most = 1 + data[0]
    joining = StateJoin(r)
    for message in messages:
        more = joining.take(message, most)
        while more:
            r.check()
            more = joining.step(most)
    while joining.step(most):
        r.check()
    if rest:
        joining.apply(rest)
    joining.finish()
    r.check()
    executor = Executor(r)
    for argv in ON_STATES:
        r.now += 7
        executor.execute(executor.session(), list(argv))
    r.check()
    r.take_ops()
    again, copy = Replica("a", 1 << 60, seed=3), []
    again.now, again.recovering = r.now, True
    walk = StateWriter(r)
    while record := walk.next(300):
        copy += probe_records(record)[0]
    assert take_all(again, copy) and again.digest() == r.digest()


BEHIND = b"-- ops --"


def held() -> Replica:
    """A replica with a little of everything, and with counter entries that are cancelled."""
    r = Replica("held", 5, seed=2)
    r.now = NOW
    executor = Executor(r)
    session = executor.session()
    for argv in (b"SET s mine", b"INCR n", b"DEL n", b"INCRBYFLOAT f 0.5", b"HSET h f v g w",
                 b"HINCRBY h n 2", b"HEXPIRE h 9 FIELDS 2 f n", b"SADD set a x",
                 b"ZADD z 1 m", b"ZINCRBY z 0.5 n",
                 b"RPUSH l x y z", b"LSET l 1 w", b"EXPIRE s 100", b"SET own 1", b"INCR n"):
        executor.execute(session, argv.split())
    r.take_ops()
    return r


ON_STATES = [tuple(line.split()) for line in (
    b"SET s v", b"INCR n", b"DEL f", b"HSET h f v", b"HDEL h g", b"SADD set x", b"SREM set a",
    b"ZINCRBY z 1 m", b"LPUSH l x", b"LINSERT l BEFORE y x", b"RPOP l", b"LSET l 0 x",
    b"HSETEX h KEEPTTL FIELDS 1 f v", b"HEXPIRE h 9 FIELDS 1 g", b"HPERSIST h FIELDS 1 f",
    b"EXPIRE s 9", b"FLUSHALL")]


def take_all(replica: Replica, messages: list[bytes]) -> bool:
    """Whether they are a whole stream."""
    reader = StateReader(replica)
    try:
        for message in messages:
            reader.take(message)
    except DamagedState:
        return False
    finally:
        replica.check()
    return reader.over


def state_of(batch: bytes) -> bytes:
    replica = fresh("y")
    receive(replica, batch)
    replica.take_ops()
    walk, out = StateWriter(replica), b""
    while record := walk.next(2000):
        out += record
    return out


def records(data: bytes) -> None:
    """Reading in one stretch and record by record is the same, and nothing sound is passed over."""
    joined, end, count, marks, status = records_join(data, 0, 1 << 30)
    at, pieces = 0, []
    while True:
        piece, at, one, _, how = records_join(data, at, 1)
        pieces.append(piece)
        if how != 1:
            break
    assert (b"".join(pieces), at, how) == (joined, end, status)
    found = record_find(data, end)
    assert found == -1 or (found >= end and records_join(data, found, 1)[2] >= 1)
    assert status != 0 or end == len(data)
    assert (records_join(record(data) + record(b""), 0, 1 << 30)
            == (data, len(data) + 16, len(data) > 0, 1 + (not data), 0))
    short = record(data, True)
    assert records_join(short, 0, 1)[1:3] == (len(short), len(data) > 0)
    assert len(short) <= len(data) + 8


# ---- seeds ---------------------------------------------------------------------------------------

def seeds(target: str) -> list[bytes]:
    rng = random.Random(target)
    if target == "requests":
        return [bytes([1, rng.randrange(256)]) + blobs.stream(rng) for _ in range(300)]
    if target == "commands":
        return [bytes([seed % 2]) + b"".join(encode(*argv) for argv in argvs) for seed in range(200)
                for argvs in ([argv for _, argv in harness.make(seed)[1]],
                              [argv for _, some in waiting.make(seed)[1] for argv in some])] + \
            [b"\0" + extreme_commands(rng) for _ in range(100)]
    if target == "snapshots":
        return seeds("dumps")
    if target == "libraries":
        chosen = [[], [], [], []]
        for _ in range(400):
            for at, make in ((0, random_scripts.json), (1, random_scripts.msgpack)):
                chosen[at] += make(rng)[1]
        chosen[2] = chosen[1]
        chosen[3] = [layout + rng.randbytes(40) for _ in range(100) for layout in
                     [b"".join(rng.choices([b"<", b">", b"!4", b"b", b"H", b"i3", b"I8", b"d", b"f",
                                            b"s", b"c3", b"Bc0", b"x", b"i16"], k=4))]]
        return [bytes([at, rng.choice([4, 8])]) + (text if isinstance(text, bytes)
                                                   else text.encode())
                for at, texts in enumerate(chosen) for text in texts]
    if target == "scripts":
        return ([b"\0" + rng.randbytes(rng.choice([40, 400])) for _ in range(200)]
                + [bytes([rng.choice([1, 3])]) + generated.script(rng).encode()
                   for _ in range(100)])
    if target == "images":
        made = [hyperloglog.made_of(*map(str, range(n)), dense=dense)[4:] for n in (0, 1, 9, 90)
                for dense in (False, True)]
        return made + [m[:at] + rng.randbytes(1) + m[at + 1:] for m in made for _ in range(20)
                       for at in [rng.randrange(min(len(m), 60))]]
    if target == "halves":
        return [b"".join(encode(*argv) for _, argv in harness.make(seed)[1]) for seed in range(100)
                ] + [log for seed in range(60) for log in home_logs(random.Random(seed))]
    if target == "states":
        return ([state_of(b) for _ in range(40) for b in cluster_batches(rng)]
                + [state_of(hostile_batch(rng)) for _ in range(60)])
    if target == "joins":
        return [bytes([i]) + state + (BEHIND + batch if i % 2 else b"") for i, (state, batch)
                in enumerate((state_of(b), b) for _ in range(10) for b in cluster_batches(rng))]
    if target == "hostile":
        return [seed for _ in range(150) for batch in [hostile_batch(rng)]
                for seed in [len(batch).to_bytes(2, "little") + batch + extreme_commands(rng)]
                if len(seed) < 8000]
    if target == "dumps":
        return [b""] + [make(rng)[:rng.choice([None, None, 9])] for _ in range(300)
                        for make in (generators_dump.body, stream_dump)]
    if target == "numbers":
        return [b"0", b"-1", b"9223372036854775807", b"-9223372036854775808", b"1.5", b"1e-320",
                b"0x1p-3", b"inf", b"nan", b"123456789.123456789",
                *(text.encode() for text in extremes.REALS + extremes.WHOLES + extremes.OFFSETS)]
    history = [batch for seed in range(60) for batch in cluster_batches(random.Random(seed))]
    if target == "records":
        return [b"".join(record(b) for b in rng.sample(history, 3)) for _ in range(60)]
    return history


def extreme_commands(rng: random.Random) -> bytes:
    """With what was there before."""
    lines = [*rng.choice(list(extremes.BEFORE.values())), *rng.choices(extremes.COMMANDS, k=12)]
    return b"".join(encode(*(x if isinstance(x, bytes) else x.encode()
                             for x in map(rng.choice, extremes.choices(line)))) for line in lines)


def stream_dump(rng: random.Random) -> bytes:
    """A stream with groups, which may be false."""
    version, choice = rng.randint(1, 3), payloads.Choice(rng.randrange(1 << 30))
    ids = sorted({(rng.randint(1, 4), rng.randint(0, 3)) for _ in range(rng.choice([0, 1, 8]))})
    groups = []
    for _ in range(rng.choice([0, 1, 1, 2])):
        records = rng.sample(ids + [(5, 5)], rng.randint(0, len(ids)))
        owners = {i: rng.choice([b"x", b"y", b"7"]) for i in records}
        if owners and rng.random() < 0.2:
            records.append(rng.choice(records))
        groups.append(payloads.group(
            rng.choice([b"g", b"h", b"12"]), version, choice, last=rng.choice([(0, 0), (3, 1)]),
            read=rng.choice([-1, 0, 5, -(2**63)]),
            records=[(i, rng.choice([0, NOW, -1]), rng.choice([0, 1, 2**63])) for i in records],
            consumers=[(c, NOW, rng.choice([-1, NOW]), [i for i in owners if owners[i] == c])
                       for c in rng.choice([[b"x", b"y", b"7"]] * 4 + [[b"x", b"x", b"y"]])]))
    return payloads.stream([(i, [b"f", b"v"]) for i in ids], version, choice, top=(9, 9),
                           groups=payloads.length(len(groups), choice) + b"".join(groups))


def hostile_batch(rng: random.Random) -> bytes:
    """Ops that the format allows and no replica makes, on the keys that extreme_commands uses."""
    actors = [pb.Actor(id=r.actor, replica=r.id, epoch=r.epoch)
              for r in (Replica("x", 1), Replica("y", 2), Replica("a", 1))]
    batch = pb.Batch(actors=actors)
    for actor in actors[:2]:
        run = batch.runs.add(actor=actor.id)
        for seq in range(1, rng.randint(2, 8)):
            op = run.ops.add(seq=seq, stamp=rng.choice([1, NOW << 16, (NOW << 16) + 60_000]))
            for _ in range(rng.randint(1, 4)):
                make = rng.choice([hostile_effect, hostile_effect, hostile_of_stream])
                make(rng, op.effects.add(), seq, op.stamp, [a.id for a in actors])
            if rng.random() < 0.5:
                op.compact = compact(op.effects, actor.id)
                op.ClearField("effects")
    return batch.SerializeToString()


def hostile_effect(rng: random.Random, x, seq: int, stamp: int, actors: list[int]) -> None:
    x.kind = rng.choice([pb.ASSIGN, pb.INCREMENT, pb.INCREMENT, pb.REMOVE, pb.DELETE, pb.DEADLINE,
                         pb.FLUSH, pb.CLEAR, 7, 7])
    x.key = (b"" if x.kind == pb.FLUSH
             else rng.choice([b"k", b"h", b"z", b"zz", b"l", b"e", b"g", b"s"]))
    if x.kind in (pb.ASSIGN, pb.INCREMENT, pb.REMOVE, pb.CLEAR):
        x.type = rng.choice([pb.STRING, pb.HASH, pb.ZSET] if x.kind == pb.INCREMENT
                            else [pb.STRING, pb.HASH, pb.SET, pb.ZSET, pb.LIST])
    if x.type and x.kind != pb.CLEAR:
        x.name = (hostile_position(rng) if x.type == pb.LIST
                  else rng.choice([b"f", b"m", b"n", b"p"]))
    if x.kind == pb.ASSIGN:
        x.keep = x.type in (pb.STRING, pb.HASH) and rng.random() < 0.5
        texts = extremes.REALS + extremes.WHOLES
        x.value = (b"" if x.type == pb.SET else rng.choice(SCORES) if x.type == pb.ZSET
                   else rng.choice(texts).encode())
    elif x.kind == pb.INCREMENT:
        x.run_seq, x.run_index = rng.randint(1, seq), rng.choice([0, 1, 2**32 - 1])
        hostile_total(rng, x)
        x.wide = rng.random() < 0.3
        if rng.random() < 0.3:
            x.shown, x.context = rng.randbytes(10), rng.choice([0, rng.getrandbits(64)])
    elif x.kind == 7:                       # PATCH
        hostile_change(rng, x, seq, actors)
    elif x.kind == pb.DEADLINE:
        x.deadline = rng.choice([0, 1, NOW, NOW + 100, 2**62, 2**63 - 1])
        if rng.random() < 0.5:
            x.type, x.name = pb.HASH, rng.choice([b"f", b"m", b"n", b"p"])
        if rng.random() < 0.5:
            x.stamp, x.actor = rng.choice([1, stamp]), rng.choice(actors)
    if x.kind in (pb.ASSIGN, pb.REMOVE, pb.DELETE, pb.CLEAR, pb.FLUSH) and x.type != pb.LIST:
        for _ in range(rng.choice([0, 0, 1, 3])):
            s = x.observed.add(actor=rng.choice(actors), run_seq=rng.randint(1, 3),
                           run_index=rng.choice([0, 0, 1]), seq=rng.choice([0, 1, 3, 2**48]))
            hostile_total(rng, s)
            if x.kind in (pb.DELETE, pb.FLUSH, pb.CLEAR):
                s.type = x.type if x.kind == pb.CLEAR else rng.choice([pb.STRING, pb.HASH, pb.ZSET])
                s.name = rng.choice([b"f", b"m"]) if s.type else b""
            if x.kind == pb.FLUSH:
                s.key = rng.choice([b"k", b"h", b"z"])


def hostile_change(rng: random.Random, x, seq: int, actors: list[int]) -> None:
    """Of a root that may be there, mostly within bounds."""
    if rng.random() < 0.7:
        x.actor, x.deadline = rng.choice(actors), rng.choice([1, 1, 2, seq, 2**48 - 1])
    x.keep = rng.random() < 0.4
    x.value = rng.choice([b"\0", b"\x01", b"ab", b"\x01\xff\x80", bytes(300)])
    x.run_seq = rng.choice([0, 0, 7, 8, 15, 4000, 2**29, 2**32 - 8, 2**63])
    if not x.keep:
        x.run_index = rng.choice([0, 0, 0, 1, 7, 8])


def hostile_of_stream(rng: random.Random, x, seq: int, stamp: int, actors: list[int]) -> None:
    """An entry, or an effect on a group."""
    def id_():
        return rng.choice([0, 1, 5, 2**64 - 1]), rng.choice([0, 1, 2**64 - 1])

    def marks(with_id):
        seen = sorted({(rng.choice(actors), rng.choice([0, 1, seq, 2**48]),
                        id_() if with_id else (0, 0)) for _ in range(rng.choice([0, 1, 3]))})
        return varint(len(seen)) + b"".join(
            varint(n << 1 | 1) + actor.to_bytes(8, "little")
            + (varint(i[0]) + varint(i[1]) if with_id else b"") for actor, n, i in seen)

    def ids():
        some = [id_() for _ in range(rng.choice([0, 1, 3]))]
        return varint(len(some)) + b"".join(map(payloads.raw_id, some))

    def named():
        return (rng.choice(actors).to_bytes(8, "little") + varint(rng.choice([0, 1, seq, 2**60]))
                + consumer + varint(zigzag(rng.choice([-1, NOW, 2**62])))
                + varint(zigzag(rng.choice([-1, 0, 1]))))
    x.key, x.kind = rng.choice([b"s", b"e"]), pb.ASSIGN
    if rng.random() < 0.4:
        x.type, x.name, x.value = pb.STREAM, payloads.raw_id(id_()), b"\1\1f\1v"
        if rng.random() < 0.3:
            x.kind, x.value, x.keep = pb.REMOVE, b"", rng.random() < 0.5
        return
    letter, consumer = rng.choice("ggsdddoocax"), rng.choice([b"\0", b"\1x", b"\1y"])
    x.type, x.name = pb.STREAM_GROUPS, letter.encode() + rng.choice([b"", b"g", b"h"])
    if letter in "gs":
        odd = rng.random() < 0.3
        x.value = (varint(rng.randint(0, 1) | odd << 1) + bytes(16) + varint(id_()[0]) + varint(0)
                   + varint(zigzag(rng.choice([-2, -1, 3]))) + marks(False) + marks(True)
                   + (marks(True) if odd else b""))
        if letter == "g" and rng.random() < 0.2:
            x.kind, x.value = pb.REMOVE, b""
    elif letter == "d":
        x.value = (named() + rng.choice([stamp, 1]).to_bytes(8, "little")
                   + rng.choice(actors).to_bytes(8, "little") + varint(rng.randint(0, 3))
                   + marks(True))
    else:
        x.value = {"o": lambda: named() + ids(), "c": named, "a": ids,
                   "x": lambda: consumer + ids()}[letter]()


def varint(v: int) -> bytes:
    return bytes([v]) if v < 128 else bytes([v & 127 | 128]) + varint(v >> 7)


def zigzag(v: int) -> int:
    return v << 1 if v >= 0 else (-v << 1) - 1


def hostile_total(rng: random.Random, x) -> None:
    form = rng.random()
    if form < 0.3:
        x.whole = rng.choice([0, 1, -1, 2**63 - 1, -2**63])
    elif form < 0.6:
        x.fraction = rng.choice([rng.randbytes(10), bytes(10), b"\1" + bytes(9), b"\xff" * 10,
                                 b"\xff" * 8 + b"\xfe\x7f", bytes(7) + b"\x80\xff\x7f"])
    else:
        low = rng.choice([-257, -2, -1, 0, 100, 250])
        x.exact.low, x.exact.limbs = low, rng.randbytes(8 * rng.choice([1, 2, 3, 8]))
        x.exact.plus, x.exact.minus = rng.choice([0, 0, 1,
                                                  2**56 - 1]), rng.choice([0, 0, 1, 2**56 - 1])


def hostile_position(rng: random.Random) -> bytes:
    """One step that this op made, anywhere."""
    ends = [0, 1, -1, 5, 2**63 - 1, -2**63]
    flags = 3 | rng.choice([0, 0, 16, 64, 80])
    return (bytes([flags]) + (b"" if flags & 16 else varint(zigzag(rng.choice(ends))))
            + varint(zigzag(rng.choice(ends)))
            + (b"" if flags & 64 else varint(rng.choice([0, 1, 2**32 - 1]))))


def cluster_batches(rng: random.Random) -> list[bytes]:
    """What three replicas that run random commands and talk now and then put into their logs and
    send each other."""
    replicas = [fresh(name) for name in "xyz"]
    for replica in replicas:
        replica.set_members(set("xyz"), True, rng.random() < 0.5)
    executors = [Executor(replica) for replica in replicas]
    sessions = [executor.session() for executor in executors]
    logs = [b""] * 3
    for _, argv in harness.make(rng.randrange(10**6))[1][:25]:
        i, j = rng.randrange(3), rng.randrange(3)
        if worth_running(argv):
            replicas[i].now += rng.randrange(1000)
            executors[i].execute(sessions[i], list(argv))
            logs[i] += replicas[i].take_ops()
        if rng.random() < 0.3:
            receive(replicas[j], logs[i])
            logs[j] += replicas[j].take_ops()
    return [log for log in (*logs, logs[0] + logs[1] + logs[2]) if log]


def home_logs(rng: random.Random) -> list[bytes]:
    """What a replica has in its log, some of whose keys stay at home."""
    replica, logs = fresh("x"), []
    replica.local_keys = [b"h*", b"l", b"k", b"n"]
    executor = Executor(replica)
    session = executor.session()
    for _, argv in harness.make(rng.randrange(10**6))[1][:25]:
        if worth_running(argv):
            for line in ([b"MULTI"], [b"INCR", b"jobs"], list(argv), [b"SET", b"n", b"1"],
                         [b"EXEC"]) if rng.random() < 0.3 else (list(argv),):
                executor.execute(session, line)
            session.unblock()
            session.take_replies()
            logs.append(replica.take_ops())
    return [log for log in (*logs, b"".join(logs)) if log]


TARGETS = {f.__name__: f for f in (requests, numbers, commands, dumps, snapshots, libraries,
                                   scripts, images, ops, hostile, halves, batches, records, states,
                                   joins)}
