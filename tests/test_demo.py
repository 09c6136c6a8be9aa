"""`crdt-redis demo` as a user meets it."""
import io
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from rich.console import Console

from crdtredis import demo
from tests.real.cluster import ROOT, executable


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits_and_breaks_no_word(monkeypatch, width):
    links = [[("up", 0), ("not replying", 120_345)], [("connecting", 7), ("retrying", 12)],
             [("paused", 3), ("up", 99)]]
    replicas = [demo.Replica(name, 30000 + i, 40000 + i, Path()) for i,
                name in enumerate(demo.NAMES)]
    for r, states in zip(replicas, links):
        others = [o for o in replicas if o is not r]
        r.seen = {"crdt": {"applied_ops": 1_234_567}, "peers": [
            {"url": f"http://127.0.0.1:{o.http_port}", "state": s, "lag_ops": n, "lag_ms": 5} for o,
            (s, n) in zip(others, states)]}
    monkeypatch.setattr(demo.Replica, "look", lambda self: None)
    monkeypatch.setattr(demo.Replica, "call", lambda self, *argv: "1234567")
    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False)
    console.print(demo.introduction(replicas, "/tmp/crdt-redis-demo-n9slqw23"))
    console.print(demo.draw(replicas))
    lines = out.getvalue().splitlines()
    assert all(len(line.rstrip()) <= width for line in lines)
    words = set(out.getvalue().split())
    assert ({"amsterdam", "boston", "canberra", "connecting", "retrying", "replying", "paused",
             "1234567", "counter"} <= words)
    assert all(any(f"-p {r.port}" in line and f":{r.http_port}/stats" in line for line in lines)
               for r in replicas)


def test_the_demo_converges_and_stops_cleanly():
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1",
                        "CRDT_DATA_DIR": "/nowhere"}
    process = subprocess.Popen([*executable(), "demo"], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, env=env)
    try:
        text, end = "", time.monotonic() + 60
        while ("equal in all three" not in text
               or not re.search(r"^amsterdam +\d+ +\d+ +up +up\s*$", text, re.M)):
            assert time.monotonic() < end and process.poll() is None, text
            text += process.stdout.readline()
        folder = Path(re.search(r"data is in (\S+)", text)[1])
        ports = [int(p) for p in re.findall(r"redis-cli -p (\d+)", text)]
        assert len(ports) == 3 and folder.is_dir()
        for port in ports:
            reply = subprocess.run(["redis-cli", "-p", str(port), "PING"], capture_output=True,
                                    text=True)
            assert reply.stdout.strip() == "PONG"
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=30)
        assert process.returncode == 0 and "stopped" in rest and "Traceback" not in text + rest
        assert not folder.exists()
        assert all(subprocess.run(["redis-cli", "-p", str(port), "PING"],
                                  capture_output=True).returncode for port in ports)
    finally:
        process.kill()
        process.wait()
