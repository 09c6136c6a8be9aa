"""`crdt-redis demo` as a user meets it."""
import os
import re
import signal
import subprocess
import time
from pathlib import Path

from tests.real.cluster import ROOT, executable


def test_the_demo_converges_and_stops_cleanly():
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "CRDT_DATA_DIR": "/nowhere"}
    demo = subprocess.Popen([*executable(), "demo"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    try:
        text, end = "", time.monotonic() + 60
        while "equal in all three" not in text or not re.search(r"^amsterdam +\d+ +\d+ +up +up\s*$", text, re.M):
            assert time.monotonic() < end and demo.poll() is None, text
            text += demo.stdout.readline()
        folder = Path(re.search(r"data is in (\S+)", text)[1])
        ports = [int(p) for p in re.findall(r"redis-cli -p (\d+)", text)]
        assert len(ports) == 3 and folder.is_dir()
        for port in ports:
            answer = subprocess.run(["redis-cli", "-p", str(port), "PING"], capture_output=True, text=True)
            assert answer.stdout.strip() == "PONG"
        demo.send_signal(signal.SIGINT)
        rest, _ = demo.communicate(timeout=30)
        assert demo.returncode == 0 and "stopped" in rest and "Traceback" not in text + rest
        assert not folder.exists()
        assert all(subprocess.run(["redis-cli", "-p", str(port), "PING"], capture_output=True).returncode for port in ports)
    finally:
        demo.kill()
        demo.wait()
