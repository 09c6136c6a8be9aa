"""Messages and sockets: order among replies, subscribers that do not read, and that a message is
held once."""
import os
import resource

from tests.engine.conftest import encode, resident, with_threads
from tests.engine.test_loop import attached
from tests.respclient import Connection


def push(channel: bytes, message: bytes, mark: bytes = b"*") -> bytes:
    return mark + b"3\r\n$7\r\nmessage\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(w), w)
                                                     for w in (channel, message))


def subscriber(s, *channels, resp3=False):
    c = s.connect()
    if resp3:
        c.send("HELLO 3")
        while not c.read(1) == b"%":
            pass
        c.send("ECHO ready")
        while True:
            line = b""
            while not line.endswith(b"\n"):
                line += c.read(1)
            if line == b"ready\r\n":
                break
    for i, channel in enumerate(channels):
        c.send(f"SUBSCRIBE {channel}")
        c.expect((b">" if resp3 else b"*") + b"3\r\n$9\r\nsubscribe\r\n$%d\r\n%b\r\n:%d\r\n" % (
            len(channel), channel.encode(), i + 1))
    return c


@with_threads
def test_messages_come_whole_and_in_order_whatever_their_size(served):
    s = served()
    a, b = subscriber(s, "ch"), subscriber(s, "ch")
    publisher = s.connect()
    messages = [bytes([65 + i % 26]) * n for i, n in enumerate(
        [0, 1, 500, 512, 513, 5000, 16383, 16384, 16385, 100_000, 2_000_000, 3, 3, 3] * 3)]
    for m in messages:
        publisher.raw(encode([b"PUBLISH", b"ch", m]))
    publisher.expect(b":2\r\n" * len(messages))
    for c in (a, b):
        for m in messages:
            c.expect(push(b"ch", m))


@with_threads
def test_messages_of_one_iteration_stand_between_the_replies(served):
    s = served()
    c = subscriber(s, "ch", resp3=True)
    big = "x" * 1000
    c.send("ECHO 1", "PUBLISH ch a", "ECHO 2", f"PUBLISH ch {big}", "UNSUBSCRIBE ch",
           "PUBLISH ch c", "ECHO 3")
    c.expect(b"$1\r\n1\r\n:1\r\n" + push(b"ch", b"a", b">") + b"$1\r\n2\r\n:1\r\n"
             + push(b"ch", big.encode(), b">")
             + b">3\r\n$11\r\nunsubscribe\r\n$2\r\nch\r\n:0\r\n:0\r\n$1\r\n3\r\n")


def test_many_subscribers_hold_one_copy(served):
    s = served()
    subscribers = [subscriber(s, "ch") for _ in range(100)]
    publisher = s.connect(60)
    message = b"x" * (16 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    publisher.raw(encode([b"PUBLISH", b"ch", message]))
    publisher.expect(b":100\r\n")
    queued = s.on_engine(lambda: sum(row["omem"] for row in s.loop.clients()))
    assert queued > 30 * len(message), "nobody has read yet"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    assert grown < 10 * len(message)
    for c in subscribers[:3]:
        c.expect(push(b"ch", message))


@with_threads
def test_who_does_not_read_is_let_go_at_the_hard_limit(served):
    s = served(pubsub_hard=1_000_000, output_hard=100_000_000)
    slow, other, publisher = subscriber(s, "ch"), subscriber(s, "other"), s.connect()
    for _ in range(200):
        publisher.raw(encode([b"PUBLISH", b"ch", b"x" * 100_000]))
        publisher.read(4)
    s.wait(lambda: s.loop.stats()["closed_output"] == 1)
    s.wait(lambda: s.loop.stats()["connected"] == 2)
    publisher.send("PUBLISH ch m", "PUBLISH other m")
    publisher.expect(b":0\r\n:1\r\n")
    other.expect(push(b"other", b"m"))
    assert len(slow.closed()) < 20_000_000


def test_one_iteration_does_not_queue_more_than_the_limit(served):
    """Small messages, each with what it takes beside its bytes."""
    s = served(pubsub_hard=100_000)
    slow, publisher = subscriber(s, "ch"), s.connect()
    publisher.send("MULTI", *["PUBLISH ch x"] * 20_000, "CLIENT LIST TYPE pubsub", "EXEC")
    publisher.expect(b"+OK\r\n" + b"+QUEUED\r\n" * 20_001 + b"*20001\r\n" + b":1\r\n" * 20_000)
    found = b""
    while b"tot-mem=" not in found or not found.endswith(b"\n\r\n"):
        found += publisher.sock.recv(4096)
    assert int(found.split(b"tot-mem=")[1].split()[0]) < 200_000
    slow.closed()
    s.wait(lambda: s.loop.stats()["closed_output"] == 1)


def test_confirmations_to_who_was_let_go_are_freed(served):
    """They are messages where replies are off, and it gets no more of these."""
    s = served(pubsub_hard=1_000_000)

    def once():
        c = subscriber(s, "ch", resp3=True)
        c.send("CLIENT REPLY OFF", "MULTI", "PUBLISH ch " + "x" * 2_000_000,
               "SUBSCRIBE" + " y" * 200_000, "EXEC")
        c.closed()
    once()
    before = resident()
    for _ in range(5):
        once()
    assert s.on_engine(lambda: s.loop.stats()["closed_output"]) == 6
    assert resident() - before < 20 << 20


def test_who_is_over_the_soft_limit_for_too_long_is_let_go(served):
    s = served(pubsub_soft=1_000_000, pubsub_soft_seconds=1, hz=100)
    slow, publisher = subscriber(s, "ch"), s.connect()
    for _ in range(100):
        publisher.raw(encode([b"PUBLISH", b"ch", b"x" * 200_000]))
        publisher.read(4)
    s.wait(lambda: s.loop.stats()["closed_output"] == 1)
    assert len(slow.closed()) < 20_000_000


def test_the_limits_of_subscribers_are_theirs_alone(served):
    s = served(pubsub_hard=50_000)
    c = s.connect()
    c.send("SET k " + "x" * 100_000, "GET k")
    c.expect(b"+OK\r\n$100000\r\n" + b"x" * 100_000 + b"\r\n")
    sub = subscriber(s, "ch", resp3=True)
    sub.send("GET k")
    sub.closed()
    assert s.on_engine(lambda: s.loop.stats()["closed_output"]) == 1


def test_subscribers_are_not_idle(served):
    s = served(timeout=1, hz=100)
    sub, idle = subscriber(s, "ch"), s.connect()
    idle.send("PING")
    idle.expect(b"+PONG\r\n")
    assert idle.closed() == b""
    publisher = s.connect()
    publisher.send("PUBLISH ch m")
    publisher.expect(b":1\r\n")
    sub.expect(push(b"ch", b"m"))


def test_who_goes_away_is_no_subscriber_any_more(served):
    s = served()
    gone, publisher = subscriber(s, "a", "b"), s.connect()
    gone.sock.close()
    s.wait(lambda: s.loop.stats()["connected"] == 1)
    publisher.send("PUBLISH a m", "PUBSUB CHANNELS")
    publisher.expect(b":0\r\n*0\r\n")


@with_threads
def test_a_client_that_waits_gets_messages(served):
    s = served()
    c, other = subscriber(s, "ch", resp3=True), s.connect()
    c.send("BLPOP q 0")
    s.wait(lambda: s.loop.stats()["blocked"] == 1)
    other.send("PUBLISH ch m", "RPUSH q x")
    other.expect(b":1\r\n:1\r\n")
    c.expect(push(b"ch", b"m", b">") + b"*2\r\n$1\r\nq\r\n$1\r\nx\r\n")


def test_kill_and_list_by_type(served):
    s = served()
    sub, c = subscriber(s, "ch"), s.connect()
    s.wait(lambda: len(s.loop.clients()) == 2)
    with Connection(s.port) as r:
        assert b" cmd=subscribe " in r("CLIENT", "LIST", "TYPE", "pubsub")
        assert b" cmd=subscribe " not in r("CLIENT", "LIST", "TYPE", "normal")
    s.wait(lambda: len(s.loop.clients()) == 2)
    c.send("CLIENT KILL TYPE pubsub")
    c.expect(b":1\r\n")
    assert sub.closed() == b""
    c.send("CLIENT KILL TYPE normal SKIPME yes")
    c.expect(b":0\r\n")


@with_threads
def test_a_subscriber_that_quits_gets_what_it_was_owed(served):
    s = served()
    sub, publisher = subscriber(s, "ch"), s.connect()
    publisher.send("PUBLISH ch m")
    publisher.expect(b":1\r\n")
    sub.send("QUIT")
    assert sub.closed() == push(b"ch", b"m") + b"+OK\r\n"


@with_threads
def test_messages_outlive_a_log_that_fails(served, tmp_path):
    """The replies of who wrote are replaced by errors; the messages between them are not lost."""
    writer = attached(tmp_path / "log")
    s = served(log=writer)
    c = subscriber(s, "ch", resp3=True)
    s.on_engine(lambda: writer.attach(os.open("/dev/full", os.O_WRONLY), 1, 0, 0, 1 << 40, 0))
    c.send("SET a 1", "PUBLISH ch m", "PING")
    refusal = b"-MISCONF Errors writing to the AOF file: No space left on device\r\n"
    c.expect(refusal * 3 + push(b"ch", b"m", b">"))
    c.send("PUBLISH ch m")
    c.expect(b":1\r\n" + push(b"ch", b"m", b">"))
