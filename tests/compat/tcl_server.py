"""Our server in the place of `src/redis-server`, for units of Redis's suite that start their own
(see tcl.py): `python -m tests.compat.tcl_server CONFIGURATION FLAGS`.

It runs where `dir` points, as Redis does, and says what the suite waits for in its output: that a
process of this id has begun, and that it takes connections.
"""
from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path


def announce(server: int, port: int) -> None:
    """Says so as soon as the port is open, unless the server has ended."""
    while os.getppid() == server:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            print("Ready to accept connections", flush=True)
            return
        except OSError:
            time.sleep(0.02)


def main() -> None:
    argv = sys.argv[1:]
    if not argv[0].startswith("-"):
        file = Path(argv[0]).resolve()
        lines = dict(line.split(None, 1) for line in file.read_text().splitlines() if " " in line)
        os.chdir(lines["dir"])
        server = os.getpid()
        print(f" PID: {server}\nServer initialized", flush=True)
        if os.fork() == 0:
            announce(server, int(lines.get("tls-port") or lines["port"]))
            os._exit(0)
        argv = [str(file), *argv[1:], "--dir", os.getcwd()]
    os.execv(sys.executable, [sys.executable, "-m", "crdtredis", *argv, "--http-port", "0",
                              "--leave-with-peer", "no"])


if __name__ == "__main__":
    main()
