"""Clusters that are told one address: who belongs to one is data like any other."""
import json
import time
import urllib.error
import urllib.request

import pytest

from crdtredis.replication.wire import SPEAKS
from tests.real.cluster import Server, free_port, until
from tests.real.test_false_handshakes import shake_hands
from tests.real.test_full_sync import fill, forget, info
from tests.respclient import ReplyError

QUICK = {"sync_interval": "200ms", "retry_interval": "50ms"}


@pytest.fixture
def server():
    made = []

    def start(name: str, *peers: Server, **settings) -> Server:
        made.append(Server(name, [p.address for p in peers], **QUICK | settings))
        return made[-1].start()

    yield start
    for s in made:
        s.dispose()


def up(s: Server) -> set[str]:
    rows = [dict(zip(r[::2], r[1::2])) for r in s("CRDT.PEERS", "VERBOSE")]
    return {r[b"replica"].decode() for r in rows if r[b"state"] == b"up"}


def members(s: Server) -> dict[str, dict]:
    rows = [dict(zip(r[::2], r[1::2])) for r in s("CRDT.MEMBERS")]
    return {r[b"replica"].decode(): {k.decode(): v for k, v in r.items()} for r in rows}


def mesh(*servers: Server) -> None:
    names = {s.name for s in servers}
    until(lambda: all(up(s) == names - {s.name} and set(members(s)) >= names for s in servers))


def health(s: Server) -> dict:
    try:
        with urllib.request.urlopen(f"http://{s.address}/health") as r:
            return json.load(r)
    except urllib.error.HTTPError as e:
        return json.load(e)


def test_one_address_is_enough(server):
    a = server("a")
    a("SET", "k", "v")
    b, c = server("b", a), server("c", a)
    d = server("d", c)
    mesh(a, b, c, d)
    assert all(s("GET", "k") == b"v" for s in (b, c, d))
    assert {m["url"] for m in members(d).values()} == {
        f"http://{s.address}".encode() for s in (a, b, c, d)}
    a.kill()                                            # whom all were told of
    b("SET", "k", "w")
    until(lambda: d("GET", "k") == b"w")
    e = server("e", d)
    mesh(b, c, d, e)


def test_restarts_write_nothing(server):
    a = server("a")
    b = server("b", a)
    mesh(a, b)
    before = until(lambda: a("CRDT.CLOCK") == b("CRDT.CLOCK") and a("CRDT.CLOCK"))
    assert len(before) == 4                             # each of them made one op
    for s in (a, b, a):
        s.restart()
        mesh(a, b)
    time.sleep(1.5)                                     # a second is how often they look
    assert a("CRDT.CLOCK") == b("CRDT.CLOCK") == before


def test_a_server_by_itself_writes_nothing(server):
    a = server("a")
    time.sleep(1.5)
    assert a("CRDT.CLOCK") == [] and a("CRDT.MEMBERS") == []
    with pytest.raises(ReplyError, match="^ERR DB index is out of range"):
        a("SELECT", 16)


def test_members_are_no_keys(server):
    a = server("a")
    b = server("b", a)
    mesh(a, b)
    assert a("DBSIZE") == 0 and a("KEYS", "*") == [] and b"db" not in a("INFO", "keyspace")
    a("FLUSHALL")
    a("CRDT.SYNC")
    assert set(members(b)) == {"a", "b"} and a("CRDT.DIGEST") == b("CRDT.DIGEST")


def test_removed_anywhere_is_removed_everywhere_and_comes_back_with_all_it_has(server):
    a = server("a")
    b, c, d = (server(name, a) for name in "bcd")
    mesh(a, b, c, d)
    d("SET", "before", 1)
    until(lambda: a("GET", "before"))
    assert any(line.startswith(b"d: ") for line in a("CRDT.LAG"))
    assert b("CRDT.PEER", "REMOVE", "d") == b"OK"
    until(lambda: up(a) == {"b", "c"} and up(b) == {"a", "c"} and up(c) == {"a", "b"})
    until(lambda: up(d) == set())
    until(lambda: any("was removed from the cluster" in r for r in health(d)["reasons"]))
    assert not any("removed" in r for r in health(a)["reasons"])
    assert not any(line.startswith(b"d: ") for line in a("CRDT.LAG"))
    d("SET", "meanwhile", 1)
    c("SET", "theirs", 1)
    d.restart()                                         # it knows, or is told
    until(lambda: b"removed" in b"".join(d("CRDT.PEERS")))
    time.sleep(1.5)
    assert up(a) == {"b", "c"} and a("GET", "meanwhile") is None
    assert members(a)["d"]["removed"] == 1
    assert c("CRDT.PEER", "ADD", d.address) == b"OK"
    mesh(a, b, c, d)
    until(lambda: all(s("GET", "meanwhile") and s("GET", "theirs") for s in (a, b, c, d)))
    until(lambda: health(d) == health(a) and health(a)["status"] == "ok")
    assert len({s("CRDT.DIGEST") for s in (a, b, c, d)}) == 1


def test_one_that_was_away_when_it_was_removed_is_told(server):
    a = server("a")
    b, c = server("b", a), server("c", a)
    mesh(a, b, c)
    c.kill()
    assert a("CRDT.PEER", "REMOVE", "c") == b"OK"
    c.start()
    until(lambda: b"c was removed from the cluster" in b"".join(c("CRDT.PEERS")))
    until(lambda: up(c) == set())


def test_one_that_is_removed_while_it_takes_in_the_state_does_not_join(server):
    a = server("a", replication_rate_limit="100kb", replication_log_size="0",
               max_segment_size="64kb", compaction_threshold=1000)
    fill(a, 0, 3000, 100)
    forget(a)
    b = server("b", a)
    until(lambda: info(b)["full_sync_from"])
    assert a("CRDT.PEER", "REMOVE", "b") == b"OK"
    until(lambda: b"b was removed from the cluster" in b"".join(b("CRDT.PEERS")))
    until(lambda: info(b)["full_sync_from"] == "" and up(a) == set())
    assert b("DBSIZE") == 0 and members(a)["b"]["removed"] == 1
    a("CONFIG", "SET", "replication-rate-limit", 0)
    assert a("CRDT.PEER", "ADD", b.address) == b"OK"
    mesh(a, b)
    until(lambda: a("CRDT.DIGEST") == b("CRDT.DIGEST"))


def test_who_may_be_removed(server):
    a = server("a")
    b = server("b", a)
    mesh(a, b)
    with pytest.raises(ReplyError, match="^ERR A replica does not remove itself"):
        a("CRDT.PEER", "REMOVE", "a")
    with pytest.raises(ReplyError, match="^ERR No such peer: nosuch"):
        a("CRDT.PEER", "REMOVE", "nosuch")
    assert a("CRDT.PEER", "REMOVE", b.address) == b"OK"
    until(lambda: members(a)["b"]["removed"] == 1)
    with pytest.raises(ReplyError, match="^ERR No such peer: b"):
        a("CRDT.PEER", "REMOVE", "b")


def test_an_address_that_changes(server):
    a = server("a")
    b = server("b", a)
    c = server("c", a)
    mesh(a, b, c)
    b.kill()
    former, b.http_port = b.http_port, b.http_port + 1 if b.http_port < 65000 else 64000
    b.start()
    mesh(a, b, c)
    until(lambda: members(c)["b"]["url"].endswith(str(b.http_port).encode()))
    assert all(str(former).encode() not in line for line in c("CRDT.PEERS"))


def test_advertise_and_discovery(server):
    a = server("a", peer_discovery="no")
    b = server("b", a, advertise="localhost:1")
    c = server("c", a)
    until(lambda: all({"b", "c"} <= set(members(s)) for s in (a, c)))
    assert members(c)["b"]["url"] == b"http://localhost:1"
    until(lambda: any(b"localhost:1" in line for line in c("CRDT.PEERS")))
    b("SET", "k", "v")                                  # nobody can call b, b calls a and c
    until(lambda: c("GET", "k") == b"v")
    c("SET", "k", "w")
    until(lambda: b("GET", "k") == b"w")
    assert a("CRDT.PEERS") == []
    a("CONFIG", "SET", "peer-discovery", "yes")
    until(lambda: "c" in up(a))
    a("CONFIG", "SET", "peer-discovery", "no")
    until(lambda: a("CRDT.PEERS") == [])


def test_one_that_calls_and_cannot_be_called_is_no_stranger(server):
    """It counts for WAIT, and changes of strings need not wait until it is called."""
    a = server("a")
    server("b", a, advertise="localhost:1")
    until(lambda: any(b"localhost:1" in line for line in a("CRDT.PEERS")))
    a("SET", "bits", bytes(100_000))
    assert a("WAIT", 1, 20_000) == 1

    def logged() -> int:
        """Bytes that a change of the string takes."""
        before = sum(p.stat().st_size for p in a.data_dir.glob("segment-*.log"))
        a("SETBIT", "bits", 7, 1 - a("GETBIT", "bits", 7))
        return sum(p.stat().st_size for p in a.data_dir.glob("segment-*.log")) - before

    until(lambda: logged() < 10_000)
    assert any(b", it called here " in line for line in a("CRDT.PEERS"))


def test_members_are_called_as_soon_as_a_replica_starts(server):
    """However long it is until clocks are compared next."""
    a = server("a", sync_interval="1h")
    b = server("b", sync_interval="1h")
    assert b("CRDT.PEER", "ADD", a.address) == b"OK"
    until(lambda: "b" in members(a) and "a" in members(b))
    for s in a, b:
        s.kill()
        s.start()
        until(lambda s=s: up(s) == {"a", "b"} - {s.name})


def test_one_that_cannot_be_called_is_paused_and_taken_back_by_its_id(server):
    a = server("a")
    n = server("n", a, advertise="localhost:1")
    until(lambda: "n" in members(a))
    assert a("CRDT.PEER", "PAUSE", "n") == b"OK"
    until(lambda: b"paused replication with n" in b"".join(n("CRDT.PEERS")))
    n("SET", "k", 1)
    with pytest.raises(ReplyError, match="No such peer: nobody"):
        a("CRDT.PEER", "PAUSE", "nobody")
    assert a("GET", "k") is None and a("CRDT.PEER", "RESUME", "n") == b"OK"
    until(lambda: a("GET", "k") == b"1")
    assert a("CRDT.PEER", "REMOVE", "n") == b"OK"
    until(lambda: "removed from the cluster" in health(n)["status"] + str(health(n)))
    with pytest.raises(ReplyError, match="^ERR"):
        a("CRDT.PEER", "ADD", "nobody")
    assert a("CRDT.PEER", "ADD", "n") == b"OK"
    until(lambda: not members(a)["n"]["removed"] and up(n) == {"a"})
    n("SET", "k", 2)
    until(lambda: a("GET", "k") == b"2")


def test_a_removed_replica_that_writes_its_address_meanwhile_stays_removed(server):
    a = server("a")
    c = server("c", a)
    d = server("d", c)
    mesh(a, c, d)
    a("CRDT.PEER", "PAUSE", "*")
    assert a("CRDT.PEER", "REMOVE", "d") == b"OK"
    d.kill()
    d.http_port = free_port()
    d.start()
    until(lambda: members(c)["d"]["url"].endswith(str(d.http_port).encode()))
    a("CRDT.PEER", "RESUME", "*")
    until(lambda: all(members(s)["d"]["removed"] for s in (a, c)))
    until(lambda: all(m["removed"] and m["url"].endswith(str(d.http_port).encode())
                      for m in (members(a)["d"], members(c)["d"])))
    until(lambda: up(a) == {"c"} and up(c) == {"a"} and up(d) == set())


def test_an_add_that_waits_does_not_undo_a_later_removal(server):
    a = server("a", peer_discovery="no")
    b = server("b", a)
    d = server("d", b)
    until(lambda: {"b", "d"} <= set(members(a)) and up(b) == {"a", "d"})
    d.kill()
    assert a("CRDT.PEER", "ADD", d.address) == b"OK"
    assert b("CRDT.PEER", "REMOVE", "d") == b"OK"
    until(lambda: members(a)["d"]["removed"])
    d.start()
    until(lambda: any(b"was removed from the cluster" in line for line in a("CRDT.PEERS"))
          or a("CRDT.PEERS") == [])
    until(lambda: b"was removed from the cluster" in b"".join(d("CRDT.PEERS")))
    assert members(a)["d"]["removed"] and up(d) == set()
    assert a("CRDT.PEER", "ADD", d.address) == b"OK"    # given anew, it does
    until(lambda: not members(b)["d"]["removed"] and up(d) >= {"b"})


def test_nothing_is_written_that_an_older_version_would_refuse(server):
    a = server("a")
    shake_hands(a, replica="old")                       # which calls, and cannot be called
    b = server("b", a)
    until(lambda: up(a) == {"b"} and up(b) == {"a"})
    load = "FUNCTION", "LOAD", "#!lua name=l\nredis.register_function('f', function() end)"
    with pytest.raises(ReplyError, match="^ERR Replica old .* knows nothing of this"):
        a(*load)
    with pytest.raises(ReplyError, match="^ERR Function not found"):
        a("FCALL", "f", 0)
    assert "a" not in members(a)
    assert a("FUNCTION", "FLUSH") == b"OK"              # which writes nothing here
    shake_hands(a, replica="old", speaks=SPEAKS)        # upgraded
    assert a(*load) == b"l"
    until(lambda: "a" in members(b))
