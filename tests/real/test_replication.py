"""Replication between server processes: outages, crashes, restored backups, strangers. The rules in
detail are in tests/replication."""
import contextlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from tests.real.cluster import Server, free_port
from tests.respclient import ReplyError
from tests.storage.faults import Disk


def until(condition, seconds: float = 15.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not come true in time"
        time.sleep(0.02)


def peers(server) -> dict[str, dict]:
    """CRDT.PEERS VERBOSE by replica id, or by URL while it is not known."""
    found = {}
    for row in server("CRDT.PEERS", "VERBOSE"):
        fields = {k.decode(): v for k, v in zip(row[::2], row[1::2])}
        found[(fields["replica"] or fields["url"]).decode()] = fields
    return found


def state(server, peer: str) -> bytes:
    return peers(server).get(peer, {}).get("state")


def fill(server, prefix: str, n: int, size: int = 20) -> None:
    with server.connect() as c:
        for at in range(0, n, 1000):
            c.pipeline([("SET", f"{prefix}{i}", "x" * size) for i in range(at, min(n, at + 1000))])


def test_writes_everywhere_reach_everywhere(cluster):
    c = cluster(3)
    for s in c:
        fill(s, s.name, 2000)
        s("INCRBY", "n", 7)
    c.sync()
    c.assert_converged()
    assert [s("DBSIZE") for s in c] == [6001] * 3 and [s("GET", "n") for s in c] == [b"21"] * 3


def test_an_outage_is_caught_up_from_segments(cluster):
    a, b, c = servers = cluster(3)
    a("SET", "before", "1")
    servers.sync()
    b.kill()
    fill(a, "k", 20_000)
    # nothing of it is in memory any more
    a.restart()
    fill(c, "late", 100)
    b.start()
    servers.sync()
    servers.assert_converged()
    assert b("DBSIZE") == 20_101


def test_kill_9_and_return(cluster):
    a, b, c = servers = cluster(3)
    for round_ in range(3):
        fill(a, f"r{round_}:", 500)
        a("INCR", "n")
        servers.sync()
        a.restart()
        a("INCR", "n")
    servers.sync()
    servers.assert_converged()
    assert b("GET", "n") == b"6"
    # it went on as the actor that it was
    assert len([k for k in b("CRDT.CLOCK")[::2] if k.startswith(b"a/")]) == 1


def test_a_restored_backup_loses_nothing_and_reuses_nothing(cluster, tmp_path):
    a, b, c = servers = cluster(3)
    fill(a, "old", 300)
    a("INCR", "n")
    servers.sync()
    a.stop()
    shutil.copytree(a.data_dir, tmp_path / "backup")
    a.start()
    fill(a, "new", 300)
    a("INCR", "n")
    servers.sync()
    a.kill()
    shutil.rmtree(a.data_dir)
    shutil.copytree(tmp_path / "backup", a.data_dir)
    a.start()
    a("INCR", "n")
    servers.sync()
    servers.assert_converged()
    assert a("GET", "new299") is not None and [s("GET", "n") for s in servers] == [b"3"] * 3


def test_a_third_replica_hands_on(cluster):
    a, b, c = servers = cluster(3)
    servers.sync()
    a("CRDT.PEER", "PAUSE", "c"), c("CRDT.PEER", "PAUSE", "a")
    fill(a, "k", 500)
    until(lambda: c("DBSIZE") == 500)
    assert state(a, "c") == b"paused"
    servers.assert_converged()


def test_pause_cuts_and_resume_joins(cluster):
    a, b, c = servers = cluster(3)
    servers.sync()
    a("CRDT.PEER", "PAUSE", "*")
    a("SET", "k", "a"), b("SET", "other", "b")
    until(lambda: c("GET", "other") == b"b")
    time.sleep(0.6)
    assert b("GET", "k") is None and a("GET", "other") is None
    a("CRDT.PEER", "RESUME", "*")
    until(lambda: b("GET", "k") == b"a" and a("GET", "other") == b"b")


def test_one_peer_resumes_after_all_were_paused(cluster):
    a, b, c = servers = cluster(3)
    servers.sync()
    c("CRDT.PEER", "PAUSE", "*")
    a("CRDT.PEER", "PAUSE", "*")
    a("CRDT.PEER", "RESUME", "b")
    a("SET", "k", "a")
    until(lambda: b("GET", "k") == b"a")
    assert state(a, "b") == b"up" and state(a, "c") == b"paused" and c("GET", "k") is None
    a("CRDT.PEER", "RESUME", "*"), c("CRDT.PEER", "RESUME", "*")
    until(lambda: c("GET", "k") == b"a")


def test_a_dead_peer_delays_nobody(cluster):
    a, b, c = servers = cluster(3)
    servers.sync()
    c.kill()
    until(lambda: state(a, "c") == b"down")
    begun = time.monotonic()
    for i in range(20):
        a("SET", "k", i)
        until(lambda: b("GET", "k") == str(i).encode(), 20.0)
    a("CRDT.SYNC", 20_000)
    # a single wait for the dead one would take sync_timeout, 30 s
    assert time.monotonic() - begun < 20.0
    row = peers(a)["c"]
    assert row["lag_ops"] >= 20 and row["error"]


def test_wait_replies_with_acknowledgements(cluster):
    a, b, c = servers = cluster(3)
    servers.sync()
    with a.connect() as client:
        client("SET", "k", "v")
        assert client("WAIT", 2, 5000) == 2
        assert b("GET", "k") == c("GET", "k") == b"v"
        b.kill()
        client("SET", "k", "w")
        assert client("WAIT", 2, 300) == 1


def test_waitfor_lets_a_client_read_its_own_writes_elsewhere(cluster):
    a, b, _ = servers = cluster(3)
    servers.sync()
    b("CRDT.PEER", "PAUSE", "*")
    a("SET", "k", "v")
    token = a("CRDT.CLOCK", "TOKEN")
    assert b("CRDT.WAITFOR", token, 50) == 0 and b("GET", "k") is None
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(b.connect()) for _ in range(30)]
        for client in clients:
            client.send("CRDT.WAITFOR", token, 0)
        with b.connect() as gone:
            gone.send("CRDT.WAITFOR", token + b",other/1=1", 0)
            until(lambda: b"blocked_clients:31" in b("INFO", "clients"))
        b("CRDT.PEER", "RESUME", "*")
        assert [client.read() for client in clients] == [1] * 30
    assert b("GET", "k") == b"v"
    assert a("CRDT.WAITFOR", b("CRDT.CLOCK", "TOKEN"), 5000) == 1


def test_waitfor_waits_where_nobody_has_called(cluster):
    a, = cluster(1)
    a("SET", "k", "v")
    name, _, seq = a("CRDT.CLOCK", "TOKEN").rpartition(b"=")
    with a.connect() as client:
        client.send("CRDT.WAITFOR", b"%s=%d" % (name, int(seq) + 1), 20_000)
        until(lambda: b"blocked_clients:1" in a("INFO", "clients"))
        a("SET", "k", "w")
        assert client.read() == 1


def test_a_stopped_process_is_named_and_keeps_no_sync_waiting(cluster):
    """SIGSTOP: connections stand and nothing comes back. CRDT.SYNC brings the others together and
    says who did not reply."""
    a, b, c = servers = cluster(3, sync_interval="1s")
    servers.sync()
    os.kill(c.pid, signal.SIGSTOP)
    try:
        a("SET", "k", "v")
        found = a("CRDT.SYNC")
        assert (found == [b"synced", [f"http://{b.address}".encode()], b"unreachable",
                          [f"http://{c.address}".encode()]])
        until(lambda: state(a, "c") == b"not replying")
        assert peers(a)["c"]["error"] == b"no reply" and state(a, "b") == b"up"
        with urllib.request.urlopen(f"http://{a.address}/health", timeout=5.0) as r:
            assert json.load(r)["warnings"] == ["peer c is not replying (no reply)"]
    finally:
        os.kill(c.pid, signal.SIGCONT)
    until(lambda: state(a, "c") == b"up" and c("GET", "k") == b"v")


@pytest.mark.parametrize("settings, word", [({"cluster_name": "other"}, b"wrong cluster"),
                                            ({"auth_token": "wrong"}, b"unauthorized")])
def test_an_undeclared_actor_is_refused(processes, settings, word):
    a = Server("a", auth_token="right").start()
    b = Server("b", peers=[a.address], **{"auth_token": "right"} | settings).start()
    b("SET", "k", "v")
    until(lambda: state(b, f"http://{a.address}") == b"refused")
    assert word in peers(b)[f"http://{a.address}"]["error"] and a("GET", "k") is None


def test_two_processes_with_one_replica_id_are_refused(processes):
    b = Server("b", retry_interval="50ms").start()
    first = Server("a", peers=[b.address], retry_interval="50ms").start()
    until(lambda: state(first, "b") == b"up")
    second = Server("a", peers=[b.address], retry_interval="50ms").start()
    until(lambda: state(first, "b") == b"refused")
    assert b"replica_id 'a'" in peers(first)["b"]["error"] and state(second, "b") == b"up"


def test_peers_are_added_and_removed_at_run_time(processes):
    a, b = Server("a", sync_interval="200ms").start(), Server("b", sync_interval="200ms").start()
    a("SET", "k", "v"), b("SET", "l", "w")
    a("CRDT.PEER", "ADD", b.address)
    a("CRDT.SYNC", 5000)
    assert b("GET", "k") == b"v" and a("GET", "l") == b"w"
    a("CRDT.PEER", "REMOVE", "b")
    until(lambda: a("CRDT.PEERS") == [])


def test_replication_over_tls(processes, tmp_path):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout",
                    tmp_path / "key", "-out", tmp_path / "cert", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"], check=True,
                    capture_output=True)
    tls = {"enable_tls": "yes", "tls_cert_file": tmp_path / "cert",
           "tls_key_file": tmp_path / "key", "tls_ca_file": tmp_path / "cert",
           "retry_interval": "50ms"}
    a, b = Server("a", **tls), Server("b", **tls)
    a.peers, b.peers = [b.address], [a.address]
    a.start(), b.start()
    a("SET", "k", "v")
    a("CRDT.SYNC", 5000)
    assert b("GET", "k") == b"v" and peers(a)["b"]["url"].startswith(b"https://")


def test_stopping_is_quick_with_peers_up_and_down(cluster):
    a, b, c = servers = cluster(3)
    servers.sync()
    c.kill()
    begun = time.monotonic()
    assert a.stop() == 0 and b.stop() == 0
    assert time.monotonic() - begun < 8.0


def test_an_http_port_in_use_stops_the_start(processes):
    a = Server("a").start()
    b = Server("b")
    b.http_port = a.http_port
    with pytest.raises(AssertionError, match="cannot listen"):
        b.start()
    assert free_port() != a.http_port


def test_a_peer_removed_and_added_in_one_pipeline_is_there(processes):
    a, b = Server("a", sync_interval="200ms").start(), Server("b", sync_interval="200ms").start()
    with a.connect() as c:
        for _ in range(20):
            assert (c.pipeline([("CRDT.PEER", "ADD", b.address), ("CRDT.PEER", "REMOVE", b.address),
                                ("CRDT.PEER", "ADD", b.address)]) == [b"OK"] * 3)
            assert len(c("CRDT.PEERS")) == 1
            assert c("CRDT.PEER", "REMOVE", b.address) == b"OK" and c("CRDT.PEERS") == []
        c("CRDT.PEER", "ADD", b.address)
        c("SET", "k", "v")
        until(lambda: b("GET", "k") == b"v")


def test_a_copied_directory_run_twice_is_told(processes):
    """Both talk to b only. The one that b refuses says so to whoever asks for its health. (That it
    comes back when the other has gone: slow_replication.py.)"""
    first, second, b = run_twice()
    first("SET", "mine", "1"), second("SET", "its", "2")
    until(lambda: b("GET", "its") == b"2")
    status, found = health(first)
    assert (status == 503 and "has taken over replica_id 'a'" in found["reasons"][0]
            and health(second)[0] == 200)


def run_twice(**settings) -> tuple[Server, Server, Server]:
    """a, refused by b since a copy of its directory runs; that copy; b."""
    quick = {"sync_interval": "50ms", "retry_interval": "50ms"} | settings
    b = Server("b", **quick).start()
    first = Server("a", peers=[b.address], **quick).start()
    first("SET", "k", "1")
    until(lambda: b("GET", "k") == b"1")
    first.stop()
    second = Server("a", peers=[b.address], **quick)
    shutil.copytree(first.data_dir, second.data_dir)
    first.start()
    until(lambda: state(first, "b") == b"up")
    second.start()
    until(lambda: state(first, "b") == b"refused")
    return first, second, b


def health(server) -> tuple[int, dict]:
    scheme = "https" if "enable_tls" in server.settings else "http"
    try:
        with urllib.request.urlopen(f"{scheme}://{server.address}/health", timeout=10,
                                    context=ssl._create_unverified_context()) as r:
            return r.status, json.load(r)
    except urllib.error.HTTPError as e:
        return e.code, json.load(e)


def test_a_peer_met_while_the_log_has_failed_gets_no_more_than_the_log_holds(processes):
    """What waits in memory for room on the disk is claimed to nobody, and the server does not look
    for it in the segments again and again."""
    a, b = Server("a", retry_interval="50ms",
                  sync_interval="100ms"), Server("b", retry_interval="50ms",
                                                 sync_interval="100ms").start()
    disk = Disk(a.data_dir)
    a.start(**disk.environment)
    a("SET", "k", "1")
    disk.fill()
    with pytest.raises(ReplyError, match="MISCONF"):
        a("SET", "unlogged", "1")
    a("CRDT.PEER", "ADD", b.address), b("CRDT.PEER", "ADD", a.address)
    until(lambda: state(a, "b") == state(b, "a") == b"up")
    before = a.cpu_seconds()
    time.sleep(2)
    assert a.cpu_seconds() - before < 0.8                       # it was 0.6 to 1.8 of a core
    assert b("GET", "unlogged") is None and a("GET", "unlogged") == b"1"
    assert peers(b)["a"]["missing_ops"] == 0                    # nothing is claimed
    disk.heal()
    until(lambda: b("GET", "unlogged") == b("GET", "k") == b"1")
    b("SET", "l", "1")
    until(lambda: a("GET", "l") == b"1")
    disk.close()
