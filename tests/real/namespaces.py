"""Servers on hosts of their own: a network namespace each, joined by a bridge in one more. A cable
that is pulled loses packets and tells nobody, which no proxy on loopback does; a port of the bridge
can be slow.

The namespaces have addresses of their own, which nothing outside of them can reach. Clients come by
Unix sockets. Making namespaces needs root and the command `ip`.
"""
from __future__ import annotations

import os
import subprocess

from tests.real.cluster import Server
from tests.respclient import Connection

SUBNET = "10.83.0"


def run(*argv) -> None:
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, argv))}: {done.stderr.strip()}"


def can_make_namespaces() -> bool:
    name = f"crdt-try-{os.getpid()}"
    try:
        made = subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False
    if made:
        run("ip", "netns", "del", name)
    return made


class Host(Server):
    """A server in the namespace that Network makes for it."""

    def __init__(self, network: Network, number: int, name: str, **settings):
        super().__init__(name, bind="0.0.0.0", protected_mode="no",
                         advertise=f"{SUBNET}.{number}:7381", **settings)
        self.network, self.number = network, number
        self.port, self.http_port = 7380, 7381
        self.settings["unixsocket"] = self.directory / "socket"

    @property
    def namespace(self) -> str:
        return f"crdt-{os.getpid()}-{self.number}"

    @property
    def address(self) -> str:
        return f"{SUBNET}.{self.number}:{self.http_port}"

    @property
    def cable(self) -> str:
        """Its end at the bridge."""
        return f"v{self.number}"

    def command(self) -> list[str]:
        return ["ip", "netns", "exec", self.namespace, *super().command()]

    def connect(self, **options) -> Connection:
        return Connection(str(self.directory / "socket"), **options)

    def unplug(self) -> None:
        """Nothing arrives and nothing leaves, and no connection is told."""
        run("ip", "-n", self.network.bridge, "link", "set", self.cable, "down")

    def plug(self) -> None:
        run("ip", "-n", self.network.bridge, "link", "set", self.cable, "up")

    def slow_down(self, bits: int) -> None:
        """What it gets comes at so many bits per second."""
        run("tc", "-n", self.network.bridge, "qdisc", "replace", "dev", self.cable, "root", "tbf",
            "rate", f"{bits}bit", "burst", "16kb", "latency", "500ms")


class Network:
    """n hosts in a full mesh, not started."""

    def __init__(self, n: int, **settings):
        self.bridge = f"crdt-{os.getpid()}-0"
        self.made: list[str] = []
        self.hosts: list[Host] = []
        self.add(self.bridge)
        run("ip", "-n", self.bridge, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", self.bridge, "link", "set", "br0", "up")
        for i in range(1, n + 1):
            host = Host(self, i, "abcdefgh"[i - 1], **settings)
            self.hosts.append(host)
            self.add(host.namespace)
            run("ip", "-n", self.bridge, "link", "add", host.cable, "type", "veth", "peer", "name",
                "eth0", "netns", host.namespace)
            run("ip", "-n", self.bridge, "link", "set", host.cable, "master", "br0", "up")
            run("ip", "-n", host.namespace, "link", "set", "lo", "up")
            run("ip", "-n", host.namespace, "addr", "add", f"{SUBNET}.{i}/24", "dev", "eth0")
            run("ip", "-n", host.namespace, "link", "set", "eth0", "up")
        for host in self.hosts:
            host.peers = [h.address for h in self.hosts if h is not host]

    def add(self, namespace: str) -> None:
        run("ip", "netns", "add", namespace)
        self.made.append(namespace)

    def start(self) -> Network:
        for host in self.hosts:
            host.start()
        return self

    def __getitem__(self, i) -> Host:
        return self.hosts[i]

    def __iter__(self):
        return iter(self.hosts)

    def dispose(self) -> None:
        for host in self.hosts:
            host.dispose()
        for namespace in self.made:
            run("ip", "netns", "del", namespace)
