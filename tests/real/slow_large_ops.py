"""Large ops between processes: what takes a minute or a gigabyte. Run by hand: pytest -s
tests/real/slow_large_ops.py"""
import socket
import threading
import time
from pathlib import Path

from tests.real.cluster import Server, free_port
from tests.real.test_replication import state, until

MB = 1 << 20


class SlowLine:
    """A port on loopback that passes bytes on to another at so many a second, over all connections,
    and can be cut."""

    def __init__(self, target: int, rate: float):
        self.port, self.target, self.rate, self.passed, self.cuts = free_port(), target, rate, 0, 0
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.sockets, self.lock = [], threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            near, _ = self.listener.accept()
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()
                continue
            self.sockets += [near, far]
            threading.Thread(target=self._pass, args=(near, far), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near), daemon=True).start()

    def _pass(self, source, target):
        try:
            while data := source.recv(1 << 15):
                with self.lock:
                    time.sleep(len(data) / self.rate)
                    self.passed += len(data)
                target.sendall(data)
        except OSError:
            pass                                                # cut, or a server has gone
        for s in (source, target):
            s.close()

    def cut(self):
        self.cuts += 1
        for s in self.sockets:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass                                            # already closed
        self.sockets = []


def reset_peak(server) -> None:
    Path(f"/proc/{server.pid}/clear_refs").write_text("5")


def test_a_transaction_of_300_mb_takes_a_small_multiple_of_it_with_three_peers(cluster):
    servers = cluster(4, sync_interval="5s")
    servers.sync()
    a = servers[0]
    for s in servers:
        reset_peak(s)
    before = [s.resident_bytes() for s in servers]
    begun = time.monotonic()
    with a.connect(timeout=120.0) as c:
        c("MULTI")
        for i in range(3):
            c("SET", f"large{i}", bytes([65 + i]) * (100 * MB))
        c("EXEC")
    answered = time.monotonic() - begun
    for s in servers.servers[1:]:
        until(lambda s=s: s("EXISTS", "large0") == 1, 120.0)
    took = time.monotonic() - begun
    peaks = [(s.peak_bytes() - b) / (300 * MB) for s, b in zip(servers, before)]
    print(f"\n300 MB in one op to 3 peers: answered after {answered:.1f} s, everywhere after "
          f"{took:.1f} s, "
          f"peaks {', '.join(f'{p:.1f}' for p in peaks)} times the op")
    servers.assert_converged(60.0)
    time.sleep(3)
    print("afterwards", [s.resident_bytes() // MB for s in servers], "MB resident")
    assert max(peaks) < 6


def test_a_large_op_over_a_slow_line_arrives_and_keeps_nobody_else_waiting(processes):
    """200 MB at 40 Mbit/s, cut three times on the way; the time limit of a request is a fraction of
    what it takes."""
    b = Server("b", sync_timeout="5s", retry_interval="50ms", sync_interval="1s")
    line = SlowLine(b.http_port, 5e6)
    a = Server("a", [f"127.0.0.1:{line.port}"], sync_timeout="5s", retry_interval="50ms",
               sync_interval="1s")
    c = Server("c", [b.address], sync_timeout="5s", retry_interval="50ms", sync_interval="1s")
    for s in (b, a, c):
        s.start()
    until(lambda: state(a, "b") == b"up" and state(c, "b") == b"up")
    with a.connect(timeout=60.0) as conn:
        conn("SET", "large", b"x" * (200 * MB))
    begun, worst = time.monotonic(), 0.0
    with c.connect() as writer, b.connect() as reader:
        i = 0
        while not reader("EXISTS", "large"):
            assert time.monotonic() - begun < 150
            if line.cuts < 3 and line.passed > (line.cuts + 1) * 45 * MB:
                line.cut()
            i += 1
            writer("SET", "n", i)
            sent = time.monotonic()
            while reader("GET", "n") != b"%d" % i:
                time.sleep(0.001)
            worst = max(worst, time.monotonic() - sent)
            time.sleep(0.05)
    took = time.monotonic() - begun
    print(f"\n200 MB over 40 Mbit/s: {took:.0f} s, {line.passed / MB:.0f} MB passed with "
          f"{line.cuts} cuts; "
          f"longest lag of another peer {worst * 1e3:.0f} ms")
    assert line.cuts == 3 and line.passed < 225 * MB and worst < 5
