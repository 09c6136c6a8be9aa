"""MOVING, which clients that asked for it are sent before the server stops."""
import concurrent.futures

import redis
from redis.maint_notifications import MaintNotificationsConfig, NodeMovingNotification

import pytest
from tests.real.cluster import Server, until
from tests.respclient import ReplyError


@pytest.fixture
def server():
    made = []

    def make(**settings):
        made.append(Server(**settings).start())
        return made[-1]
    yield make
    for s in made:
        s.dispose()


def asks(s, *argv):
    c = s.connect(resp=3)
    assert c("CLIENT", "MAINT_NOTIFICATIONS", *argv) == b"OK"
    return c


def told(c) -> list:
    """What it is sent until the connection ends."""
    out = []
    while True:
        try:
            out.append(c.read())
        except (ConnectionError, EOFError):
            return out


@pytest.mark.parametrize("how", ["SIGTERM", "SHUTDOWN"])
def test_clients_hear_of_a_stop(server, how):
    s = server(moving_endpoint="other.example:6380")
    clients = [asks(s, "ON", "moving-endpoint-type", "external-ip"), asks(s, "on"),
               asks(s, "ON", "MOVING-ENDPOINT-TYPE", "None"), asks(s, "ON")]
    listener = asks(s, "ON", "moving-endpoint-type", "internal-fqdn")
    listener("SUBSCRIBE", "c")
    waits = asks(s, "ON")
    waits.send("BLPOP", "nothing", "0")
    off = [s.connect(resp=3), asks(s, "ON"), asks(s, "ON")]
    assert off[1]("CLIENT", "MAINT_NOTIFICATIONS", "OFF") == b"OK"
    assert off[2]("RESET") == b"RESET" and off[2]("HELLO", 3)
    clients[0]("SET", "k", "v")
    if how == "SHUTDOWN":
        s.connect().send("SHUTDOWN")
    assert s.stop() == 0
    found = [told(c) for c in clients]
    [[word, number, seconds, endpoint]] = found[0]
    assert (word, endpoint) == (b"MOVING", b"other.example:6380")
    assert number > 1_700_000_000_000 and 0 < seconds <= 60
    assert found[1:] == 3 * [[[b"MOVING", number, seconds, None]]]
    assert told(listener) == found[0] and told(waits) == found[1]
    assert [told(c) for c in off] == [[], [], []]


def test_without_an_endpoint_nobody_is_sent_away(server):
    """A client that wants an address may not be able to read anything else."""
    s = server()
    away, back = asks(s, "ON", "moving-endpoint-type", "internal-ip"), asks(s, "ON")
    assert s.stop() == 0
    assert told(away) == [] and [m[3] for m in told(back)] == [None]


def test_the_endpoint_changes_at_run_time(server):
    s = server(moving_endpoint="one:1")
    c = asks(s, "ON", "moving-endpoint-type", "external-fqdn")
    for bad in ("one", "one:0", "one:65536", "http://one:1", "one:1/", "a b:1"):
        with pytest.raises(ReplyError, match="moving-endpoint"):
            s("CONFIG", "SET", "moving-endpoint", bad)
    s("CONFIG", "SET", "moving-endpoint", "[::1]:6379")
    assert s("CONFIG", "GET", "moving-endpoint") == [b"moving-endpoint", b"[::1]:6379"]
    assert s.stop() == 0
    assert [m[3] for m in told(c)] == [b"[::1]:6379"]


def test_what_is_refused(server):
    s = server()
    c = s.connect(resp=3)
    for argv in (["MAYBE"], ["ON", "moving-endpoint-type"], ["ON", "endpoint", "none"],
                 ["OFF", "moving-endpoint-type", "none"],
                 ["ON", "moving-endpoint-type", "none", "more"]):
        with pytest.raises(ReplyError, match="syntax"):
            c("CLIENT", "MAINT_NOTIFICATIONS", *argv)
    with pytest.raises(ReplyError, match="must be one of"):
        c("CLIENT", "MAINT_NOTIFICATIONS", "ON", "moving-endpoint-type", "elsewhere")
    with pytest.raises(ReplyError, match="RESP3"):
        s("CLIENT", "MAINT_NOTIFICATIONS", "ON")
    assert s("CLIENT", "MAINT_NOTIFICATIONS", "OFF") == b"OK"


def test_what_the_server_leaves_unread_does_not_reset_the_connection(server):
    s = server()
    c = asks(s, "ON")
    s("CLIENT", "PAUSE", 1_000_000, "ALL")
    for _ in range(100):
        c.send("SET", "k", "x" * 100)                   # the first is held back, the others unread
    assert s.stop() == 0
    assert c.read()[0] == b"MOVING"
    c.socket.getpeername()                              # redis-py asks this before it moves
    assert c.socket.recv(1) == b""                        # no ConnectionResetError


def test_a_client_that_reads_nothing_delays_no_stop(server):
    s = server()
    c = asks(s, "ON")
    c("SET", "big", "x" * (1 << 20))
    for _ in range(64):
        c.send("GET", "big")
    assert s.stop(timeout=20) == 0


def test_redis_py_understands_it(server):
    s = server(moving_endpoint="127.0.0.1:6380")
    r = redis.Redis(port=s.port, protocol=3, maint_notifications_config=MaintNotificationsConfig(
        enabled=True))                      # True: what the server refuses is an error
    p = r.pubsub()
    p.subscribe("c")
    assert p.get_message(timeout=10)["type"] == "subscribe"
    seen = []
    p.connection._parser.set_node_moving_push_handler(seen.append)
    assert s.stop() == 0
    with pytest.raises(redis.ConnectionError):
        while True:
            p.connection.read_response(push_request=True)
    [found] = seen
    assert isinstance(found, NodeMovingNotification)
    assert (found.new_node_host, found.new_node_port) == ("127.0.0.1", 6380) and found.ttl == 30


def test_redis_py_goes_on_at_the_other_replica(server):
    """Without an error on the way. It takes the host of the endpoint, and the port that it had; and
    it has to read that before it writes to a connection that is gone."""
    s = server(moving_endpoint="127.0.0.2:6380")
    other = Server("b", bind="127.0.0.2", http_bind="127.0.0.1")
    other.port = s.port
    try:
        other.start(wait=False)
        until(lambda: " ready, " in other.log())
        with redis.Redis(host="127.0.0.2", port=s.port) as there:
            there.rpush("queue", "b")
        with (redis.Redis(port=s.port, protocol=3,
                          maint_notifications_config=MaintNotificationsConfig(enabled=True)) as r,
              concurrent.futures.ThreadPoolExecutor(1) as thread):
            got = thread.submit(r.blpop, ["queue"], 60)
            until(lambda: b"blocked_clients:1" in s("INFO", "clients"))
            assert s.stop() == 0
            assert got.result(60)[1] == b"b"
    finally:
        other.dispose()
