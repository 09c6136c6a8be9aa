"""The GIL between the loop and Python's other threads."""
import subprocess
import sys
import time

import pytest

TURNS = 200


def turns(most: float) -> int:
    """How many times this thread lets the GIL go and gets it again in `most` seconds, up to
    TURNS."""
    end = time.monotonic() + most
    n = 0
    while n < TURNS and time.monotonic() < end:
        time.sleep(0)
        n += 1
    return n


def until_handed(served, times: int) -> None:
    """Until the loop has held the GIL for so long that whoever waits is given it next."""
    end = time.monotonic() + 20
    while served.loop.stats()["gil_handed"] < times:
        assert time.monotonic() < end, "it lets go and takes it again at once"
        time.sleep(0.01)


@pytest.mark.parametrize("busy_ms", [1, 2000])
def test_a_script_that_calls_python_commands_starves_nobody(served, busy_ms):
    s = served()
    s.executor.busy_reply_threshold = busy_ms
    c = s.connect()
    c.send([b"EVAL", b"while true do redis.call('time') end", b"0"])
    while s.executor.stats()["commands"] < 100:
        time.sleep(0.001)
    until_handed(s, 20)
    assert turns(20) == TURNS
    s.loop.stop()
    c.read(1)


def test_clients_that_send_python_commands_starve_nobody(served):
    s = served()
    sent = b"TIME\r\n"
    program = f"""
import socket, threading
s = socket.create_connection(("127.0.0.1", {s.port}))
threading.Thread(target=lambda: [s.recv(1 << 20) for _ in iter(int, 1)], daemon=True).start()
while True:
    s.sendall({sent!r} * 1000)
"""
    client = subprocess.Popen([sys.executable, "-c", program])
    try:
        s.wait(lambda: s.executor.stats()["commands"] >= 1000)
        until_handed(s, 20)
        assert turns(20) == TURNS
    finally:
        client.kill()
        client.wait()


def test_the_loop_sleeps_without_the_gil(served):
    s = served()
    c = s.connect()
    for _ in range(50):
        c.send("TIME").read(1)
        begun = time.monotonic()
        time.sleep(0.002)
        assert time.monotonic() - begun < 1
