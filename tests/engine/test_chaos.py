"""Clients that do everything at the wrong moment, and one that must not notice: it checks each of
its replies."""
from __future__ import annotations

import os
import random
import select
import socket
import struct
import time

import pytest

from tests.engine.conftest import encode

COMMANDS = ["PING", "ECHO hello", "SET {k} {v}", "GET {k}", "INCR {n}", "MGET {k} {k} {k}", "MULTI",
            "EXEC", "DISCARD", "WATCH {k}", "UNWATCH",
            "SELECT 1", "SELECT 0", "NOPE {k}", "GET", "HELLO 3", "HELLO 2", "RESET",
            "CLIENT REPLY SKIP", "CLIENT REPLY OFF", "CLIENT REPLY ON",
            "CLIENT LIST", "CLIENT SETNAME {k}", "CLIENT INFO", "CLIENT KILL ID {id}",
            "CLIENT KILL TYPE normal SKIPME no", "CLIENT UNBLOCK {id}",
            "CLIENT PAUSE 3 WRITE", "CLIENT UNPAUSE", "TEST.DEFER 5", "TEST.DEFER", "TEST.RAISE x",
            "TEST.BIG 300000", "TEST.BIG 10", "QUIT", "BLPOP {l} {k} 0.01", "BLPOP {l} {l2} 0",
            "BLMOVE {l} {l2} LEFT RIGHT 0.1",
            "BLMOVEM {l} {l2} LEFT RIGHT 0.1 EXACTLY 3 OBO", "BZPOPMIN {l} 0.05",
            "BLMPOP 0 2 {l} {l2} RIGHT COUNT 3", "RPUSH {l} {v}", "RPUSH {l} a b c", "DEL {l}",
            "ZADD {l} 1 m", "CLIENT UNBLOCK {id} ERROR"]
WEIGHTS = [1 if "KILL TYPE" in c or c == "QUIT" else 2 if "CLIENT" in c or "DEFER" in c else 8
           for c in COMMANDS]
NOISE = [b"*1\r\n$x\r\n", b"\r\n", b"*-1\r\n", b"*0\r\n", b"$5\r\n", b"GET 'a\r\n",
         b"*2\r\n$3\r\nGET\r\n", b"\0\0\r\n", b"PING\r\n"]


def some_bytes(rng: random.Random) -> bytes:
    out = b""
    for _ in range(rng.choice([1, 2, 5, 16, 40])):
        line = rng.choices(COMMANDS, WEIGHTS)[0].format(k=f"k{rng.randrange(20)}",
                                                        n=f"n{rng.randrange(5)}",
                                                        v="x" * rng.choice([1, 10, 5000]),
                                                        id=rng.randrange(2, 200),
                                                        l=f"l{rng.randrange(4)}",
                                                        l2=f"l{rng.randrange(4)}")
        out += encode(line) if rng.random() < 0.95 else line.encode() + b"\r\n"
    if rng.random() < 0.05:
        out += rng.choice(NOISE)
    return out[:rng.randrange(len(out))] if rng.random() < 0.1 else out


@pytest.mark.parametrize("seed", range(int(os.environ.get("CHAOS_SEEDS", "3"))))
def test_nobody_disturbs_others(served, seed, caplog):
    """The observer is client 1, and the only one that is spared by KILL (its id is never drawn, and
    TYPE kills by it are rebuilt)."""
    caplog.set_level("CRITICAL", "crdtredis.engine")        # TEST.RAISE logs a traceback each time
    rng = random.Random(seed)
    s = served(output_hard=20_000_000, query_limit=10_000_000)
    observer = None
    clients, pending = [], {}
    deadline = time.monotonic() + 3
    counter = 0
    while time.monotonic() < deadline:
        if observer is None:
            observer = s.connect()
            s.sockets.remove(observer.sock)
        if len(clients) < 30:
            c = socket.create_connection(("127.0.0.1", s.port))
            c.setblocking(False)
            clients.append(c)
            pending[c] = b""
        c = rng.choice(clients)
        action = rng.random()
        try:
            if action < 0.7:
                pending[c] = pending[c] or some_bytes(rng)
                piece = pending[c][:rng.choice([1, 7, 100, 100_000])]
                pending[c] = pending[c][c.send(piece):]
            elif action < 0.9:
                while len(c.recv(1 << 16)) == 1 << 16:
                    pass
            elif action < 0.93:
                c.shutdown(socket.SHUT_WR)
            else:
                if action > 0.97:
                    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                c.close()
                clients.remove(c)
        except BlockingIOError:
            pass
        except OSError:
            c.close()
            clients.remove(c)
        if rng.random() < 0.2:
            counter += 1
            try:
                observer.send(f"ECHO {counter}", "PING", f"NOPE {counter}")
                text = str(counter).encode()
                observer.expect(b"$%d\r\n%b\r\n+PONG\r\n-ERR unknown command 'NOPE', with args "
                                b"beginning with: '%b' \r\n" % (len(text), text, text))
            except (ConnectionError, AssertionError) as e:
                # A kill of every client may have met it; nothing else may.
                if (isinstance(e, AssertionError) and select.select([observer.sock], [], [], 0.2)[0]
                    and observer.sock.recv(1)):
                    raise
                observer.sock.close()
                observer = None
    for c in clients:
        c.close()
    if observer is not None:
        observer.sock.close()
    s.on_engine(s.loop.unpause)
    s.wait(lambda: s.loop.connected == 0)
    s.connect().send("PING").expect(b"+PONG\r\n")
    assert (s.loop.stats()["blocked"] == s.loop.stats()["waited_keys"] == s.loop.stats()["timeouts"]
            == 0)
    assert s.replica.stats()["watched"] == 0
