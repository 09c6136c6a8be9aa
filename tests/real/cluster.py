"""Real server processes for tests: `Server` is one, `Cluster` a full mesh of them, `Reference` a
redis-server to compare with.

A process runs exactly what a user runs: `python -m crdtredis` from this checkout, or the executable
that CRDT_REDIS_EXECUTABLE names (so the same tests prove dist/crdt-redis). All it is told are
flags. Ports are picked free on loopback, data lives in a temporary directory, and output goes to a
file there whose end a failing test shows (conftest.py).

Nothing may outlive a test run, however it ends: `stop_all` ends every process of this module and
removes its files, and the kernel itself kills the processes (PR_SET_PDEATHSIG) when the test
process dies before it could.

Replication is steered only through the public commands: CRDT.PEER PAUSE|RESUME *, CRDT.SYNC and
CRDT.DIGEST.
"""
from __future__ import annotations

import ctypes
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from crdtredis.storage.witness import name_of
from tests.respclient import Connection, ReplyError

ROOT = Path(__file__).resolve().parents[2]
PORTS = 10_000, 32_000                   # below net.ipv4.ip_local_port_range
# seconds until a server must answer PING; generous, for a busy CI machine
START_TIMEOUT = 30.0
running: list[Process] = []            # every process started and not yet disposed of
_given: set[int] = set()


def free_port() -> int:
    """A TCP port that was free a moment ago and that this process has not given out before. None
    that the system gives to outgoing connections: one of those could have it when a server starts,
    or starts again."""
    while True:
        port = random.randrange(*PORTS)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            return port


def until(condition, seconds: float = 60.0):
    """What condition() answers once that is true. Generous: a test waits for a condition, never for
    a time."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "did not come true in time"
        time.sleep(0.01)
    return found


def executable() -> list[str]:
    """The command that starts our server. CRDT_REDIS_IO_THREADS: with so many (the setting
    io_threads, unless the test has its own), and a thread is woken for each call."""
    chosen = os.environ.get("CRDT_REDIS_EXECUTABLE")
    if not chosen and os.environ.get("CRDT_REDIS_IO_THREADS"):
        return [sys.executable, "-m", "tests.real.eager"]
    return [chosen] if chosen else [sys.executable, "-m", "crdtredis"]


_libc = ctypes.CDLL(None)


def _die_with_parent() -> None:
    _libc.prctl(1, signal.SIGKILL)       # PR_SET_PDEATHSIG


class Process:
    """A server process with its directory, its log and its port. Subclasses say how it is
    started."""

    name = "server"

    def __init__(self, directory: str | None = None):
        self.own_directory = directory is None
        self.directory = Path(directory or tempfile.mkdtemp(prefix="crdt-redis-test-"))
        self.port = free_port()
        self.process: subprocess.Popen | None = None
        self._connection: Connection | None = None
        running.append(self)

    def command(self) -> list[str]:
        raise NotImplementedError

    @property
    def log_path(self) -> Path:
        return self.directory / "output.log"

    @property
    def pid(self) -> int:
        return self.process.pid

    def start(self, wait: bool = True, **environment: str) -> Process:
        """Start the process and, unless told otherwise, wait until it answers PING."""
        assert self.process is None, "already running"
        env = {k: v for k, v in os.environ.items() if not k.startswith("CRDT_")}
        env |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | environment
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=subprocess.STDOUT,
                                            cwd=self.directory, env=env,
                                            preexec_fn=_die_with_parent)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, timeout: float = START_TIMEOUT) -> None:
        end = time.monotonic() + timeout
        why = None
        while time.monotonic() < end:
            if self.process.poll() is not None:
                code, self.process = self.process.returncode, None
                raise AssertionError(f"{self.name} ended with {code} while starting:\n{self.log()}")
            try:
                with self.connect(timeout=5.0) as c:
                    c("PING")
                return
            except (OSError, ReplyError) as e:
                why = e
                time.sleep(0.02)
        raise AssertionError(f"{self.name} does not answer within {timeout} s "
                             f"({why}):\n{self.log()}")

    def connect(self, **options) -> Connection:
        return Connection(self.port, **options)

    def __call__(self, *argv):
        """One command on a connection kept for the purpose."""
        if self._connection is None:
            self._connection = self.connect()
        return self._connection(*argv)

    def _disconnect(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.process.kill()
        self.process.wait()
        self.process = None
        self._disconnect()

    def stop(self, timeout: float = 20.0) -> int:
        """SIGTERM; returns the exit code."""
        self._disconnect()
        self.process.terminate()
        code = self.process.wait(timeout)
        self.process = None
        return code

    def restart(self) -> None:
        if self.process:
            self.kill()
        self.start()

    def log(self, lines: int = 60) -> str:
        try:
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no output)"

    def cpu_seconds(self) -> float:
        """User and system time that the process's threads have used so far."""
        return sum(int(f.read_text().split()[0])
                   for f in Path(f"/proc/{self.pid}/task").glob("*/schedstat")) / 1e9

    def resident_bytes(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf(
                "SC_PAGE_SIZE")

    def peak_bytes(self) -> int:
        """Resident at most, since the start or since /proc/PID/clear_refs was written to."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(x.split()[1]) << 10 for x in lines if x.startswith("VmHWM"))

    def dispose(self) -> None:
        """End the process and remove its files."""
        if self.process:
            self.kill()
        self._disconnect()
        if self.own_directory:
            shutil.rmtree(self.directory, ignore_errors=True)
        if self in running:
            running.remove(self)


def stop_all(but: set[int] = frozenset()) -> None:
    """Dispose of every process but those whose id() is listed (the ones that outlive the test)."""
    for p in list(running):
        if id(p) not in but:
            p.dispose()


class Server(Process):
    """One crdt-redis process. `settings` are flags by setting name: Server("a",
    appendfsync="always")."""

    def __init__(self, name: str = "a", peers: list[str] = (), directory: str | None = None,
                 **settings):
        super().__init__(directory)
        self.name = name
        self.http_port = free_port()
        self.peers = list(peers)
        self.settings = settings

    @property
    def address(self) -> str:
        """What other replicas name it by."""
        return f"127.0.0.1:{self.http_port}"

    @property
    def data_dir(self) -> Path:
        return self.directory / "data"

    @property
    def witness(self) -> Path:
        """What the machine remembers of this replica's processes (storage/witness.py). Without it,
        each is another actor."""
        return Path("/dev/shm", name_of(os.stat(self.data_dir)))

    @property
    def url_left(self) -> str:
        """Where its last process left its testimony (replication/keeping.py); "": nowhere."""
        return json.loads((self.data_dir / "identity.json").read_text()).get("left",
                                                                             {}).get("url", "")

    def command(self) -> list[str]:
        flags = {"port": self.port, "http-port": self.http_port, "replica-id": self.name,
                 "data-dir": self.data_dir, "leave-with-peer": "no"}
        if threads := os.environ.get("CRDT_REDIS_IO_THREADS"):
            flags["io-threads"] = threads
        if self.peers:
            flags["peers"] = ",".join(self.peers)
        flags |= {k.replace("_", "-"): v for k, v in self.settings.items()}
        return executable() + [part for k, v in flags.items() for part in (f"--{k}", str(v))]


class Cluster:
    """`n` servers in a full mesh, named a, b, c ...; indexable, iterable."""

    def __init__(self, n: int = 3, **settings):
        # Peers are probed often, so that a restarted one is found within a test's patience.
        settings = {"sync_interval": "200ms", "retry_interval": "50ms"} | settings
        self.servers = [Server(name, **settings) for name in "abcdefgh"[:n]]
        for s in self.servers:
            s.peers = [o.address for o in self.servers if o is not s]

    def start(self) -> Cluster:
        for s in self.servers:
            s.start(wait=False)
        for s in self.servers:
            s.wait_ready()
        return self

    def __getitem__(self, i):
        return self.servers[i]

    def __iter__(self):
        return iter(self.servers)

    def __len__(self):
        return len(self.servers)

    def pause(self) -> None:
        """Cut replication in both directions at every server."""
        for s in self.servers:
            s("CRDT.PEER", "PAUSE", "*")

    def resume(self) -> None:
        for s in self.servers:
            s("CRDT.PEER", "RESUME", "*")

    def sync(self, timeout_ms: int = 20_000) -> None:
        """Resume replication and wait until every server has what every other has."""
        self.resume()
        # twice: what the first round brought to one server may have come after its own turn
        for _ in range(2):
            for s in self.servers:
                s("CRDT.SYNC", timeout_ms)

    def digests(self) -> list:
        return [s("CRDT.DIGEST") for s in self.servers]

    def assert_converged(self, within: float = 5.0) -> None:
        """All digests equal; ops made by the servers themselves (reaping) are given a moment."""
        end = time.monotonic() + within
        while len(set(found := self.digests())) > 1:
            if time.monotonic() > end:
                raise AssertionError(f"digests differ: {found}\nclocks: "
                                     f"{[s('CRDT.CLOCK') for s in self.servers]}")
            time.sleep(0.05)


class Reference(Process):
    """A redis-server to compare with. Its absence is a failure, never a reason to skip."""

    name = "redis-server"

    def __init__(self, *options: str, directory: str | None = None, binary: str | None = None):
        super().__init__(directory)
        self.options, self.binary = options, binary

    def command(self) -> list[str]:
        binary = self.binary or shutil.which("redis-server")
        assert binary, (
            "redis-server is needed to compare with: install the Debian package redis-server")
        return [binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir",
                str(self.directory), "--daemonize", "no",
                *(self.options or ("--save", "", "--appendonly", "no"))]
