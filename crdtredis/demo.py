"""`crdt-redis demo`: three replicas on loopback, to play with.

Three child processes, each exactly what a user would start, with data in a temporary directory and
ports that were free. A little traffic of its own (every second each replica increments one counter
and sets one key that all fight for) keeps the picture alive; everything shown is read from the
replicas, over HTTP (/stats) and with ordinary commands. In a terminal the picture has the whole
screen and follows its size (rich does that); elsewhere it is printed every two seconds.

Ctrl-C or SIGTERM stops the children in order and removes the directory; a second one changes
nothing, since the stop is bounded. Should the demo itself be killed, the kernel ends the children
(PR_SET_PDEATHSIG).
"""
from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from crdtredis.errors import StartError

NAMES = ("amsterdam", "boston", "canberra")
START_PATIENCE = 30.0                   # seconds until all three must reply
STOP_PATIENCE = 10.0
# seconds between two lines where standard output is no terminal
PLAIN_PERIOD = 2.0
LIVE_PERIOD = 0.5                       # ... and between two pictures where it is one


def command() -> list[str]:
    """What starts a server: the executable this is, or this interpreter with this package."""
    if getattr(sys, "frozen", False):
        return [os.environ.get("_CRDT_REDIS_SELF", sys.executable)]
    return [sys.executable, "-m", "crdtredis"]


def free_ports(n: int) -> list[int]:
    """Ports that were free together a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    try:
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


class Client:
    """A Redis client of the three reply types the demo meets."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 5.0)
        self._file = self._socket.makefile("rb")

    def __call__(self, *argv: str) -> str:
        parts = [a.encode() for a in argv]
        self._socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p)
                                                                for p in parts))
        line = self._file.readline()
        if not line:
            raise ConnectionError("the server closed the connection")
        text = line[1:-2].decode("utf-8", "replace")
        if line[:1] == b"-":
            raise ValueError(text)
        if line[:1] != b"$":
            return text
        return (self._file.read(int(text) + 2)[:-2].decode("utf-8", "replace") if text != "-1"
                else "(nil)")

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@dataclass
class Replica:
    name: str
    port: int
    http_port: int
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    client: Client | None = None
    seen: dict = field(default_factory=dict)

    def start(self, peers: list[str]) -> None:
        libc = ctypes.CDLL(None)
        flags = {"--port": self.port, "--http-port": self.http_port, "--replica-id": self.name,
                 "--data-dir": self.folder / "data",
                 "--peers": ",".join(peers), "--bind": "127.0.0.1", "--cluster-name": "demo"}
        environment = {k: v for k, v in os.environ.items() if not k.startswith("CRDT_")}
        with open(self.folder / "messages.log", "wb") as log:
            self.process = subprocess.Popen(
                [*command(), *(str(word) for pair in flags.items() for word in pair)],
                stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, env=environment, start_new_session=True,
                preexec_fn=lambda: libc.prctl(1, signal.SIGKILL))

    def call(self, *argv: str) -> str:
        """One command; "?" while the replica cannot be talked to."""
        try:
            self.client = self.client or Client(self.port)
            return self.client(*argv)
        except (OSError, ValueError):
            if self.client:
                self.client.close()
            self.client = None
            return "?"

    def look(self) -> None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/stats",
                                        timeout=2.0) as r:
                self.seen = json.load(r)
        except (OSError, ValueError):
            self.seen = {}


def main() -> int:
    def stop(number: int, frame: object) -> None:
        for again in (signal.SIGINT, signal.SIGTERM):
            signal.signal(again, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    console = Console(highlight=False, soft_wrap=False)
    with tempfile.TemporaryDirectory(prefix="crdt-redis-demo-") as folder:
        ports = free_ports(2 * len(NAMES))
        replicas = []
        for i, name in enumerate(NAMES):
            (Path(folder) / name).mkdir()
            replicas.append(Replica(name, ports[2 * i], ports[2 * i + 1], Path(folder) / name))
        try:
            begin(replicas)
            watch(console, replicas, folder)
        except KeyboardInterrupt:
            console.print("stopping ...")
        finally:
            end(replicas)
    console.print("stopped; the data directory is removed")
    return 0


def begin(replicas: list[Replica]) -> None:
    for r in replicas:
        r.start([f"127.0.0.1:{o.http_port}" for o in replicas if o is not r])
    patience = time.monotonic() + START_PATIENCE
    while not all(r.call("PING") == "PONG" for r in replicas):
        for r in replicas:
            if r.process.poll() is not None:
                said = (r.folder / "messages.log").read_text(errors="replace").strip()
                raise StartError(f"replica {r.name} ended: {said}", 1)
        if time.monotonic() > patience:
            raise StartError(f"the replicas did not reply within {START_PATIENCE:g} s", 1)
        time.sleep(0.05)


def watch(console: Console, replicas: list[Replica], folder: str) -> None:
    """Write and show until interrupted."""
    head = introduction(replicas, folder)
    live = Live(console=console, screen=True, auto_refresh=False) if console.is_terminal else None
    if live:
        live.start()
    else:
        console.print(head)
    try:
        turn = 0
        next_write = next_show = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= next_write:
                next_write, turn = now + 1.0, turn + 1
                for r in replicas:
                    r.call("INCR", "demo:counter")
                    r.call("SET", "demo:last", f"{r.name} in second {turn}")
            if now >= next_show:
                next_show = now + (LIVE_PERIOD if live else PLAIN_PERIOD)
                picture = draw(replicas)
                if live:
                    live.update(Group(head, picture), refresh=True)
                else:
                    console.print(picture)
            time.sleep(max(0.01, min(next_write, next_show) - time.monotonic()))
    finally:
        if live:
            live.stop()


def introduction(replicas: list[Replica], folder: str) -> RenderableType:
    """How to connect, and what to try."""
    lines = ["Three replicas of one data set are running. Each takes reads and writes:", ""]
    lines += [f"{r.name:<10} redis-cli -p {r.port:<5} http://127.0.0.1:{r.http_port}/stats"
              for r in replicas]
    lines += ["",
              "Try: SET k v here, GET k there; INCR n in all of them; CRDT.PEER PAUSE '*' in one, "
              "write on both sides, "
              "CRDT.PEER RESUME '*'. Ctrl-C stops them.", f"Their data is in {folder}", ""]
    return Text("\n".join(lines))


def draw(replicas: list[Replica]) -> RenderableType:
    """The replicas as a table: what each holds, and how each is linked with the others."""
    for r in replicas:
        r.look()
    digests = [r.call("CRDT.DIGEST") for r in replicas]
    names = {f"127.0.0.1:{r.http_port}": r.name for r in replicas}
    # the longest words fit into 60 columns
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("replica", no_wrap=True)
    table.add_column("ops", justify="right", no_wrap=True)
    table.add_column("demo:\ncounter", justify="right", no_wrap=True)
    for name in NAMES:
        table.add_column(f"to\n{name}", overflow="fold", min_width=len("connecting"))
    for r in replicas:
        ops = r.seen.get("crdt", {}).get("applied_ops", "?")
        links = {names.get(p["url"].partition("://")[2]): link(p) for p in r.seen.get("peers", ())}
        table.add_row(r.name, str(ops), r.call("GET", "demo:counter"),
                      *("" if name == r.name else links.get(name, "no reply") for name in NAMES))
    if "?" in digests:
        verdict = "a replica does not reply"
    elif len(set(digests)) == 1:
        verdict = f"digest {digests[0][:16]}: equal in all three"
    else:
        verdict = "digests differ just now: " + "  ".join(d[:8] for d in digests)
    return Group(table, Text(verdict), Text(""))


def link(peer: dict) -> str:
    """A link's state, and how far behind its other end is."""
    if peer["state"] != "up" or not peer["lag_ops"]:
        return peer["state"] + (f" ({peer['lag_ops']} behind)" if peer["lag_ops"] else "")
    return f"{peer['lag_ops']} ops, {peer['lag_ms']} ms"


def end(replicas: list[Replica]) -> None:
    for r in replicas:
        if r.process and r.process.poll() is None:
            r.process.terminate()
    patience = time.monotonic() + STOP_PATIENCE
    for r in replicas:
        if r.process:
            try:
                r.process.wait(max(0.1, patience - time.monotonic()))
            except subprocess.TimeoutExpired:
                r.process.kill()
                r.process.wait()
        if r.client:
            r.client.close()
