"""Runs the server with a pure-Python thread beside it that spins while a file exists: what a busy
sync thread costs the clients.

    python bench/spinning.py FLAG-FILE [flags of crdt-redis]
"""
import os
import sys
import threading
import time

from crdtredis.cli import main


def spin(flag: str) -> None:
    while True:
        if not os.path.exists(flag):
            time.sleep(0.05)
            continue
        for _ in range(200_000):
            pass


threading.Thread(target=spin, args=(sys.argv[1],), daemon=True).start()
sys.exit(main(sys.argv[2:]))
