"""A peer that says untrue things of this replica's own past: it costs a few epochs at most, and
never the data directory."""
import http.client
import json
import time

import pytest

from crdtredis.clocks import Actor, actor_id
from crdtredis.replication.wire import CONTENT_TYPE, PROTOCOL, decode, encode, proto
from crdtredis.storage.batch import declaration


def shake_hands(server, told=(), clock=None, replica: str = "evil", batch: bytes = b"",
                speaks: int = 0):
    """(status, Hello or Failure, the declarations or nothing)"""
    now = int(time.time() * 1000)
    hello = proto.Hello(version=PROTOCOL, cluster="default", replica=replica, epoch=now,
                       process=12345, now=now, speaks=speaks,
                       clock=[proto.ClockEntry(actor=a, seq=s) for a, s in (clock or {}).items()])
    actors = [Actor(actor_id(r, e), r, e) for r, e in [(replica, now), *told]]
    declared = declaration(actors) + batch
    c = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=10)
    c.request("POST", "/replication/handshake", encode(hello, declared),
              {"Content-Type": CONTENT_TYPE, "X-Replica": replica})
    r = c.getresponse()
    body = r.read()
    c.close()
    return r.status, *decode(proto.Hello if r.status == 200 else proto.Refusal, body)


def epoch(server) -> int:
    return json.loads((server.data_dir / "identity.json").read_text())["epoch"]


@pytest.mark.parametrize("told", [2**63 - 2, 2**63 - 1, 2**63, 2**64 - 1])
def test_an_epoch_from_the_end_of_time_is_not_believed(server, told):
    a = server()
    before = epoch(a)
    status, hello, _ = shake_hands(a, [("a", told)])
    assert (status, epoch(a), hello.epoch) == (200, before, before)
    a("SET", "k", "v")
    a.restart()
    assert a("GET", "k") == b"v" and before < epoch(a) < time.time() * 1000 + 1


def test_epochs_that_lie_ahead_are_left_a_few_times_only(server):
    """Each is believed, for a copy of the directory may have run with it; the next start comes all
    the same."""
    a = server()
    before, refused = epoch(a), 0
    for _ in range(20):
        status, reply, _ = shake_hands(a, [("a", epoch(a) + 1000)])
        refused += status == 409 and "does another process use its id?" in reply.text
    assert refused == 17 and before < epoch(a) < before + 3 * (1001 + (1 << 20))
    assert "known_actors:4\r\n" in a("INFO", "crdt").decode()
    a.restart()
    assert a("SET", "k", "v") == b"OK"


def test_ops_that_were_never_made_cost_three_epochs_a_minute(server):
    a, epochs = server(), set()
    for _ in range(200):
        own = epoch(a)
        epochs.add(own)
        shake_hands(a, clock={actor_id("a", own): 1000})
    assert len(epochs) == 4
    assert a("SET", "k", "v") == b"OK" and a.process.poll() is None
