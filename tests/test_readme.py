"""The README: its example, pasted, gives what its comments promise. It is short, and what it names
is there."""
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.real.cluster import ROOT, executable, free_port


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
        lines = process.communicate(timeout=120)[0].splitlines()
    finally:
        try:
            os.killpg(process.pid, 9)
        except ProcessLookupError:
            pass
    found = iter(lines)
    assert all(value in found for value in promised), lines
    digests = [line for line in lines if re.fullmatch(r"[0-9a-f]{32}", line)]
    assert len(digests) == 3 and len(set(digests)) == 1, lines


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
