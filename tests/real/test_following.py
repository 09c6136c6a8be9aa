"""`crdt-redis backup --follow` against real servers: killed, cut off, outrun, refused."""
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest

from crdtredis.storage import restore
from crdtredis.storage.shipping import generations, heard
from tests.http.test_operators import ask
from tests.real.cluster import Server, executable, until
from tests.real.cluster import _die_with_parent
from tests.real.links import Links
from tests.real.test_backup import run
from tests.real.test_full_sync import segments
from tests.real.test_point_in_time import Writer, gone_back, moments, now, past


class Follower:
    def __init__(self, address: str, folder, *more: str) -> None:
        self.output = folder.with_suffix(".out")
        self.folder, self.argv = folder, [*executable(), "backup", "--follow", "--from", address,
                                          "--to", str(folder), *more]
        self.start()

    def start(self) -> None:
        with open(self.output, "ab") as out:
            self.process = subprocess.Popen(self.argv, stderr=out, stdout=out,
                                            preexec_fn=_die_with_parent)

    def said(self) -> str:
        return self.output.read_text()

    def heard(self, ms: int) -> None:
        def there():
            assert self.process.poll() is None, self.said()
            found = generations(self.folder) if self.folder.exists() else []
            return found and heard(found[-1]) >= ms
        until(there)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture
def follower(tmp_path):
    made = []

    def start(address: str, *more: str) -> Follower:
        made.append(Follower(address, tmp_path / "kept", *more))
        return made[-1]

    yield start
    for f in made:
        if f.process.poll() is None:
            f.stop(signal.SIGKILL)
        assert "Traceback" not in f.said()


@pytest.fixture
def links():
    found = Links()
    yield found
    found.close()


def compact(a) -> None:
    """Until the log has lost what stands there now; a follower that is connected may hold that up
    until it has it."""
    before = segments(a)[-1]

    def gone() -> bool:
        a("SET", "pad", "x" * 100_000)
        a("SAVE")
        return segments(a)[0] > before

    until(gone)


def test_what_was_written_a_moment_ago_is_there(server, follower, tmp_path):
    a = server("a", max_segment_size="64kb", replication_log_size="0", compaction_threshold=2)
    w = Writer(a, "w")
    w.write(20)
    f = follower(a.address)
    f.heard(past(now()))
    for _ in range(4):                  # checkpoints come, and the log before them goes
        w.write(60)
        a("SET", "pad", "x" * 100_000)
        a("SAVE")
    compact(a)
    w.write(40)
    f.heard(past(now()))
    a.kill()
    assert f.stop() == 0
    assert re.search(r"stopped; .* can be restored up to \d{4}-", f.said())
    assert len(generations(f.folder)) == 1
    b = Server("a")
    run("restore", f.folder, b.data_dir)
    b.start()
    assert w.check(b, now()) == 300
    for ms in moments([w.log[20:]])[:3]:
        x = gone_back(f.folder, ms)
        w.check(x, ms)
        x.dispose()
    assert "is not covered" in run("restore", f.folder, tmp_path / "to", "--new-cluster", "x",
                                   "--until", now() + 10 ** 6, code=2)


def test_killed_at_any_moment_it_can_be_restored_and_goes_on(server, follower):
    a = server("a")
    w = Writer(a, "w")
    f = follower(a.address, "--keep", "0")
    f.heard(1)
    running = True

    def write():
        while running:
            w.write()
            time.sleep(0.005)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for i in range(4):
            f.heard(ms := past(now()))
            time.sleep(0.03 * i)
            if i == 1:
                a("SAVE")
            f.stop(signal.SIGKILL)
            b = Server("a")
            run("restore", f.folder, b.data_dir)
            b.start()
            n = int(b("GET", "w:count"))
            assert sum(replied <= ms for _, replied in w.log) <= n
            assert b("LRANGE", "w:list", 0, -1) == [b"%d" % j for j in range(n)]
            b.dispose()
            f.start()
    finally:
        running = False
        thread.join()
    f.heard(past(now()))
    assert f.stop(signal.SIGINT) == 0
    assert len(generations(f.folder)) == 1 and f.said().count("going on with") >= 4
    b = Server("a")
    run("restore", f.folder, b.data_dir)
    b.start()
    assert w.check(b, now()) == len(w.log)


def test_through_restarts_of_the_server_and_cut_connections(server, follower, links):
    a = server("a", max_segment_size="64kb")
    w = Writer(a, "w")
    link = links.to(a.http_port)
    f = follower(link.address)
    f.heard(1)
    for i in range(3):
        w.write(40)
        if i == 0:
            a.kill()
            os.unlink(a.witness)        # another actor
        elif i == 1:
            assert a.stop() == 0        # which waits for no follower
        else:
            link.cut()
            w.write(40)
            link.mend()
        if i < 2:
            a.start()
            w.c = a.connect()
        w.write(10)
        f.heard(past(now()))
    assert f.stop() == 0
    assert len(generations(f.folder)) == 1
    b = Server("a")
    run("restore", f.folder, b.data_dir)
    b.start()
    assert w.check(b, now()) == len(w.log) == 190
    assert len(b("CRDT.CLOCK", "TOKEN").split(b",")) == 2


def test_a_new_backup_where_the_log_does_not_go_on(server, follower):
    a = server("a", max_segment_size="64kb", replication_log_size="0")
    w = Writer(a, "w")
    w.write(30)
    f = follower(a.address)
    f.heard(past(now()))
    f.stop(signal.SIGKILL)
    w.write(10)
    for _ in range(3):                  # compacted meanwhile
        w.write(60)
        a("SET", "pad", "x" * 100_000)
        a("SAVE")
    compact(a)
    f.start()
    f.heard(past(now()))
    assert len(generations(f.folder)) == 2
    # the server lost the end of its log, and went on differently
    f.heard(past(now()))
    sizes = {p: p.stat().st_size for p in a.data_dir.glob("segment-*")}
    w.write(5)
    f.heard(past(now()))
    a.kill()
    newest = max(a.data_dir.glob("segment-*"))
    os.truncate(newest, sizes[newest])
    os.unlink(a.witness)
    a.start()
    with a.connect() as c:
        c("INCR", "w:count")
    f.heard(past(now()))
    found = generations(f.folder)
    assert len(found) == 3 and f.stop() == 0
    b = Server("a")
    run("restore", f.folder, b.data_dir)
    b.start()
    assert b("GET", "w:count") == b"221" and b("LLEN", "w:list") == 220
    x = gone_back(f.folder, ms := w.log[25][1])             # of which the first generation knows
    w.check(x, ms)


def test_what_is_older_than_keep_goes(server, follower):
    a = server("a", max_segment_size="64kb", replication_log_size="0")
    w = Writer(a, "w")
    f = follower(a.address, "--keep", "0")
    f.heard(1)
    gen, = generations(f.folder)
    for _ in range(3):
        w.write(150)
        a("SET", "pad", "x" * 100_000)
        a("SAVE")
        newest = max(a.data_dir.glob("checkpoint-*")).name
        until(lambda: [p.name for p in gen.glob("checkpoint-*.ckpt")] == [newest])
    until(lambda: not (gen / "segment-0000000000000001.log").exists())
    f.heard(past(now()))
    assert f.stop() == 0
    b = Server("a")
    run("restore", f.folder, b.data_dir)
    b.start()
    assert w.check(b, now()) == 450


def test_a_follower_that_takes_nothing_pins_nothing(server, follower):
    import http.client

    a = server("a", max_segment_size="1mb", replication_log_size="2mb")
    w = Writer(a, "w")
    slow = http.client.HTTPConnection("127.0.0.1", a.http_port, timeout=20)
    slow.request("GET", "/backup?follow=1")
    reply = slow.getresponse()
    assert reply.status == 200 and reply.headers["X-Follow"] == "1"
    w.write(20)
    with a.connect() as c:
        for _ in range(13):             # more than it may be behind
            c.pipeline([("SET", f"k:{i}", os.urandom(500_000)) for i in range(20)])
    field = re.compile(rb"log_first_segment:(\d+)")
    until(lambda: a("SAVE") and int(field.search(a("INFO", "persistence"))[1]) > 20)
    assert "log_kept=0" in told(a)["follower0"]
    assert "the log is not kept for the follower at 127.0.0.1:" in ask(a, "/health")[2]
    slow.close()


def test_what_the_follower_removes_meanwhile_is_looked_up_again(server, follower, monkeypatch):
    a = server("a")
    w = Writer(a, "w")
    w.write(10)
    f = follower(a.address)
    f.heard(past(now()))
    f.stop()
    names, calls = os.listdir, []

    def listed(path):
        calls.append(path)
        return names(path) + ["segment-0000000000000000.log"] * (len(calls) == 2)

    b = Server("a")
    monkeypatch.setattr(os, "listdir", listed)
    assert restore.restore(f.folder, b.data_dir) == 0
    monkeypatch.undo()
    assert len(calls) > 3
    b.start()
    assert w.check(b, now()) == 10


def told(a) -> dict:
    return dict(line.split(":", 1) for line in a("INFO", "persistence").decode().splitlines()
                if line.startswith("follower"))


def test_who_follows_is_told(server, follower):
    """In INFO, /stats and /metrics; and in /health, where one is late."""
    a = server("a", max_segment_size="64kb", replication_log_size="0")
    assert told(a) == {"followers": "0", "followers_lag_bytes": "0", "followers_lag_seconds": "0.0",
                       "followers_outrun": "0"}
    f = follower(a.address)
    f.heard(past(now()))
    until(lambda: "state=following,log_kept=1,lag_bytes=0" in told(a).get("follower0", ""))
    assert float(told(a)["followers_lag_seconds"]) < 5
    one, = json.loads(ask(a, "/stats")[2])["followers"]
    assert one["address"].startswith("127.0.0.1:") and one["state"] == "following"
    f.process.send_signal(signal.SIGSTOP)
    sent = 0
    with a.connect() as c:
        while int(told(a)["followers_lag_bytes"]) < 1 << 20 or sent < 100 << 20:
            c.pipeline([("SET", f"k:{i}", os.urandom(1 << 20)) for i in range(10)])
            sent += 10 << 20
    until(lambda: float(told(a)["followers_lag_seconds"]) > 3)
    text = ask(a, "/metrics")[2]
    assert "crdt_redis_followers 1.0" in text and "crdt_redis_followers_outrun_total 0.0" in text
    lag = float(re.search(r"crdt_redis_followers_lag_bytes (\d\S*)", text)[1])
    assert 1 << 20 <= lag and "crdt_redis_followers_lag_seconds 0.0" not in text
    f.process.send_signal(signal.SIGCONT)
    f.heard(past(now()))
    assert f.stop() == 0
    until(lambda: told(a)["followers"] == "0")


def test_no_more_than_a_few_and_each_to_its_own(server, follower, tmp_path):
    import http.client

    a = server("a")
    a("SET", "k", 1)
    conns = []
    for _ in range(4):
        conns.append(http.client.HTTPConnection("127.0.0.1", a.http_port, timeout=20))
        conns[-1].request("GET", "/backup?follow=1")
        reply = conns[-1].getresponse()
        assert reply.status == 200
        reply.read(int(reply.headers["X-Backup-Size"]))
    out = run("backup", "--follow", "--from", a.address, "--to", tmp_path / "x", code=4)
    assert "4 follow already" in out
    run("backup", "--from", a.address, "--to", tmp_path / "b.tar")      # others are not kept out
    for c in conns:
        c.close()

    def free():
        f = follower(a.address)
        return f if until(lambda: f.process.poll() is not None or (
            "following" in f.said())) and f.process.poll() is None else None
    f = until(free)
    f.heard(past(now()))
    assert "is in use" in run("backup", "--follow", "--from", a.address, "--to", f.folder, code=4)
    assert f.stop() == 0
    b = server("b")
    b("SET", "k", 1)
    out = run("backup", "--follow", "--from", b.address, "--to", f.folder, code=2)
    assert "follows replica 'a', and this is 'b'" in out


def test_a_stop_does_not_wait_for_a_follower(server, follower):
    a = server("a")
    f = follower(a.address)
    f.heard(past(now()))
    a("SET", "k", "last")
    begun = time.monotonic()
    assert a.stop() == 0 and time.monotonic() - begun < 4
    until(lambda: "connecting again" in f.said())
    f.stop()
    assert b"last" in b"".join(p.read_bytes() for p in f.folder.rglob("segment-*"))


def test_what_is_wrong_is_said(server, tmp_path):
    a = server("a", auth_token="secret")
    a("SET", "k", 1)
    for argv, code, text in [
            (("--from", a.address), 2, "needs --to"), (("--to", "-"), 2, "needs --to"),
            (("--from", a.address, "--to", tmp_path / "x"), 4, "401"),
            (("--from", "127.0.0.1:1", "--to", tmp_path / "x"), 4, "refused"),
            (("--to", tmp_path / "x", "--keep", "long"), 2, "expected a time"),
            (("--to", tmp_path / "x", "--keep", "9999999999d"), 2, "expected a time"),
            (("--to", a.data_dir), 2, "is a data directory")]:
        out = run("backup", "--follow", *argv, code=code)
        assert text in out and out.count("\n") == 1, out
    shutil.rmtree(tmp_path / "x")


@pytest.mark.parametrize("query", [
    "follow=1&segment=1", "follow=1&segment=x&offset=1&checkpoint=0&every=1",
    "follow=1&segment=1&offset=-1&checkpoint=0&every=1",
    "follow=1&segment=1&offset=1&checkpoint=0&every=" + "9" * 30])
def test_a_request_that_says_nothing(server, query):
    import http.client

    a = server("a")
    c = http.client.HTTPConnection("127.0.0.1", a.http_port, timeout=20)
    c.request("GET", f"/backup?{query}")
    assert c.getresponse().status == 400
