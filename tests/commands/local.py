"""One replica behind an Executor, without a socket: what the tests of commands call. Replies are
compared as their bytes."""
from __future__ import annotations

from crdtredis._core import Replica
from crdtredis._engine import Executor
from crdtredis.commands import table

NOW = 1_700_000_000_000                                    # ms; every test begins here
OK = b"+OK\r\n"
NULL = b"$-1\r\n"
SYNTAX = b"-ERR syntax error\r\n"
NOT_INTEGER = b"-ERR value is not an integer or out of range\r\n"
NOT_FLOAT = b"-ERR value is not a valid float\r\n"
WRONG_TYPE = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"


def num(n: int) -> bytes:
    return b":%d\r\n" % n


def bulk(text) -> bytes:
    text = text if isinstance(text, bytes) else str(text).encode()
    return b"$%d\r\n%b\r\n" % (len(text), text)


def array(*items: bytes) -> bytes:
    return b"*%d\r\n" % len(items) + b"".join(items)


def error(text: str) -> bytes:
    return f"-{text}\r\n".encode()


class Local:
    """local("SET", "k", "v") -> b"+OK\\r\\n". Time stands still until a test moves it."""

    def __init__(self, name: str = "a", resp: int = 2):
        table.load()
        self.replica = Replica(name, 1, seed=7)
        self.replica.now = NOW
        self.executor = Executor(self.replica)
        self.session = self.executor.session(resp)
        self.counted = 0

    def __call__(self, *argv) -> bytes:
        return self.executor.execute(self.session,
                                     [a if isinstance(a, bytes) else str(a).encode() for a in argv])

    def later(self, ms: int) -> None:
        self.replica.now += ms

    def ops(self) -> int:
        """How many ops were made since the last call: 0 when nothing changed."""
        now = sum(self.replica.clock().values())
        self.counted, before = now, self.counted
        return now - before

    def deadline(self, key: str) -> int:
        """The key's deadline in ms since 1970, -1 for none, -2 for no key."""
        return int(self("PEXPIRETIME", key)[1:])


def sync(*replicas: Local) -> None:
    """Every replica receives what each of the others has made."""
    made = [r.replica.take_ops() for r in replicas]
    for receiver in replicas:
        for sender, ops in zip(replicas, made):
            if sender is not receiver:
                receiver.replica.receive(ops)
        receiver.replica.take_ops()
