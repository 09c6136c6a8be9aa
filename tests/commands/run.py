"""Commands without sockets: an Executor over a Replica, time passed in, replies as Python values
(see tests/respclient.py).

    c = Client()            # a replica of its own, at NOW
    c("SET", "k", "v")      # b"OK"; an error reply is raised as ReplyError
    c.now += 1000           # a second later
    c.error("GET")          # the text of the error reply
    c.raw("GET", "k")       # the bytes
    d = c.other()           # another client of the same server
"""
from __future__ import annotations

from crdtredis._core import Replica
from crdtredis._engine import Executor
from tests.respclient import ReplyError, decode

NOW = 1_700_000_000_000


class Client:
    def __init__(self, name: str = "a", *, resp: int = 2, server=None, executor=None,
                 epoch: int = NOW) -> None:
        if executor is None:
            replica = Replica(name, epoch, seed=1)
            replica.now = NOW
            executor = Executor(replica, server)
        self.executor, self.replica = executor, executor.replica
        self.session = executor.session(resp)

    def other(self, resp: int = 2) -> Client:
        return Client(resp=resp, executor=self.executor)

    @property
    def now(self) -> int:
        return self.replica.now

    @now.setter
    def now(self, ms: int) -> None:
        self.replica.now = ms

    def raw(self, *argv) -> bytes:
        return self.executor.execute(self.session,
                                     [a if isinstance(a, bytes) else str(a).encode() for a in argv])

    def __call__(self, *argv):
        value = decode(self.raw(*argv))
        if isinstance(value, ReplyError):
            raise value
        return value

    def error(self, *argv) -> str:
        value = decode(self.raw(*argv))
        assert isinstance(value, ReplyError), value
        return str(value)

    def effects(self, *argv) -> int:
        """How many ops the command made."""
        self.replica.take_ops()
        before = sum(self.replica.clock().values())
        self.raw(*argv)
        return sum(self.replica.clock().values()) - before


def exchange(*clients: Client) -> None:
    """Everything made so far reaches every replica."""
    for _ in range(2):
        batches = [c.replica.take_ops() for c in clients]
        for c in clients:
            for batch in batches:
                if batch:
                    c.replica.receive(batch)
