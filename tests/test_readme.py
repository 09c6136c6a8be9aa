"""The README: its example, pasted, gives what its comments promise. It is short, and what it names
is there. The example of packaging/operation.md as well."""
import os
import random
import re
import shlex
import socket
import subprocess
from pathlib import Path

import pytest

from tests.real.cluster import ROOT, executable, free_port


def paste(block: str, tmp_path: Path) -> list[str]:
    """The lines that the commands print."""
    program = tmp_path / "bin" / "crdt-redis"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.join(executable())} "$@"\n')
    program.chmod(0o755)
    environment = os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}",
                                "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(["bash", "-c", block + "\nwait"], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True, env=environment,
                               start_new_session=True)
    try:
        return process.communicate(timeout=120)[0].splitlines()
    finally:
        try:
            os.killpg(process.pid, 9)
        except ProcessLookupError:
            pass


def test_three_replicas(tmp_path):
    block, = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    promised = re.findall(r'# "(\w+)"', block)
    assert promised == ["hello", "7", "10"]
    ports = {port: str(free_port()) for port in ("7001", "7002", "7003", "8001", "8002", "8003")}
    # all at once: a free port may hold another's digits
    block = re.sub(r"\b\d{4}\b", lambda m: ports.get(m[0], m[0]), block)
    ready = (f"for p in {ports['7001']} {ports['7002']} {ports['7003']}; do until [ \"$(redis-cli "
             "-p $p CRDT.PEERS 2>&1 | grep -c ': up')\" = 2 ]; do sleep 0.1; done; done")
    block = block.replace("/tmp/three", str(tmp_path / "three"))
    block, pauses = re.subn(r"sleep \d", ready, block)
    assert pauses == 1
    lines = paste(block, tmp_path)
    found = iter(lines)
    assert all(value in found for value in promised), lines
    digests = [line for line in lines if re.fullmatch(r"[0-9a-f]{32}", line)]
    assert len(digests) == 3 and len(set(digests)) == 1, lines


def free_ports() -> str:
    """Three in a row, without their last digit: 1, 2 and 3."""
    while True:
        start = str(random.randint(1100, 3200))
        try:
            for n in "123":
                with socket.socket() as s:
                    s.bind(("127.0.0.1", int(start + n)))
            return start
        except OSError:
            pass


def test_three_replicas_with_tls_users_and_prometheus(tmp_path):
    block, = re.findall(r"```sh\n(.*?)```", (ROOT / "packaging/operation.md").read_text(), re.S)
    for digits in ("720", "810"):
        block = re.sub(rf"\b{digits}(?=[123]\b|\$n)", free_ports(), block)
    block = block.replace("/tmp/secure", str(tmp_path / "secure"))
    ready = ("for n in 1 2 3; do until [ \"$(cli $(sed -n 's/tls-port //p' r$n.conf) -a $(cat "
             "requirepass) CRDT.PEERS 2>&1 | grep -c ': up')\" = 2 ]; do sleep 0.1; done; done")
    block, moved = re.subn(r"sleep 5\n(cli\(\) .*\n)", lambda m: f"{m[1]}{ready}\n", block)
    block, looked = re.subn(r"\ncurl .*\n", "\n", block)           # not everywhere is there one
    assert moved == looked == 1
    lines = paste(block, tmp_path)
    assert lines.count("/health: 200") == 3
    found = iter(lines)
    assert all(line in found for line in (
        "OK", "OK", "synced", "hello", "NOPERM No permissions to access a key")), lines
    scraped = (tmp_path / "secure" / "prometheus.yml").read_text()
    assert re.search("^  - job_name: crdt-redis$", scraped, re.M)


def test_it_is_short():
    text = (ROOT / "README.md").read_text().split("<!-- reference -->")[0]
    assert len([word for word in text.split() if re.search(r"\w", word)]) <= 2500


@pytest.mark.parametrize("page", ["README.md", "packaging/operation.md", "CHANGELOG.md"])
def test_the_files_it_names_are_there(page):
    text = (ROOT / page).read_text()
    for name in re.findall(r"\]\(([\w./-]+)(?:#\w+)?\)", text):
        assert (ROOT / page).parent.joinpath(name).exists(), name
    named = re.findall(r"`([\w./-]+\.(?:py|pyx|pxi|pxd|md|proto|sh|service))`", text)
    for name in named:
        # a name without a folder stands in the one that was named last, or below crdtredis/
        folders = [ROOT, ROOT / "crdtredis", *(ROOT / "crdtredis" / Path(n).parent for n in named)]
        assert any((folder / name).exists() for folder in folders), name
