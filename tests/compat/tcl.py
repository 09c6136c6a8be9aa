"""Redis's own test suite, written in Tcl, run against our server: what passes, what fails, and why
that is as it should be.

The suite belongs to Redis and is not part of this repository. Take a checkout of Redis 7.2.4, the
version this server claims (its `runtest` wants `tclsh`, and `redis-cli` and `redis-benchmark` in
its src/: built there, or links to installed ones) and name it:

    python -m tests.compat.tcl PATH                       # every unit of UNITS
    python -m tests.compat.tcl PATH type/string expire    # these
    python -m tests.compat.tcl PATH --reference           # redis-server: what there is to pass
    python -m tests.compat.tcl PATH --peer                # a second replica must agree each time

Each unit gets a fresh server, since the units of the suite leave settings behind, and runs in the
suite's mode for external servers, without the tests that want DEBUG or a Redis-style replica. Those
of OWN start their servers themselves, with configurations and files of users of their own; `tls`
is of them, and speaks TLS (Debian: tcl-tls) with certificates that the suite makes. Of a
unit it prints how many tests passed, failed, were not run (skipped, since they would hang, or never
reached, since an exception ends a block of tests) and were not meant for external servers, and each
failure that `tcl_differences.py` does not justify. A justified failure that passes is reported too:
the list is to be true. The exit code is 0 when there was nothing to report.
"""
from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.compat.tcl_differences import DIFFERENCES, HANGING, OWN, UNITS, WITHOUT_ENCODINGS
from tests.real.cluster import ROOT, Cluster, Process, Reference, stop_all
from tests.respclient import ReplyError

LINE = re.compile(r"\[(ok|err|ignore|skip|exception|TIMEOUT)\]:? ?(.*)")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Outcome:
    """What became of one unit's tests: names, and of failed ones what the suite said."""
    passed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    # exceptions outside of a test: what follows in the block is not run
    broken: list[str] = field(default_factory=list)


def read(output: str) -> Outcome:
    """The outcome told by the lines that `runtest` prints. A failure is told again at the end: the
    first telling counts."""
    found = Outcome()
    text: list[str] | None = None                                # lines of the failure being read
    for line in COLOUR.sub("", output).splitlines():
        if line.strip() == "The End":
            break
        m = LINE.match(line)
        if not m:
            if text is not None:
                text.append(line)
            continue
        kind, rest = m.groups()
        text = None
        if kind == "ok":
            found.passed.append(re.sub(r" \(\d+ ms\)$", "", rest))
        elif kind == "ignore":
            found.ignored.append(rest)
        elif kind == "err" and " in tests/" in rest:
            text = [rest]
            found.failed[rest.rpartition(" in tests/")[0]] = text
        elif kind == "skip":
            found.skipped.append(rest)
        else:
            text = [f"[{kind}] {rest}"]
            found.broken.append(text)
    found.failed = {name: "\n    ".join(lines[1:]) for name, lines in found.failed.items()}
    found.broken = ["\n    ".join(lines) for lines in found.broken]
    return found


def stand_in(suite: Path, folder: Path) -> Path:
    """The suite once more, in this folder, with our server as its redis-server."""
    for name in ("runtest", "tests", "utils"):
        (folder / name).symlink_to(suite / name)
    (folder / "src").mkdir()
    for name in ("redis-cli", "redis-benchmark"):
        (folder / "src" / name).symlink_to(suite / "src" / name)
    server = folder / "src/redis-server"
    server.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" PYTHONUNBUFFERED=1 exec "{sys.executable}" '
                      '-m tests.compat.tcl_server "$@"\n')
    server.chmod(0o755)
    return folder


def run(suite: Path, unit: str, server: Process | None, skip: list[str], timeout: int,
        reference: bool = False) -> tuple[Outcome, str]:
    """Run one unit against a running server, or (None) servers that it starts. `timeout` is in
    seconds, of one test."""
    argv = ["./runtest", "--durable", "--tags", "-needs:debug -needs:repl",
            "--timeout", str(timeout), "--baseport", str(21111 + 80 * (os.getpid() % 100)),
            "--single", unit if unit.startswith("integration/") else f"unit/{unit}"]
    if server is not None:
        argv += ["--host", "127.0.0.1", "--port", str(server.port)]
    if unit == "tls":
        argv.append("--tls")
        if not (suite / "tests/tls/redis.dh").exists():
            subprocess.run(["utils/gen-test-certs.sh"], cwd=suite, check=True, capture_output=True)
    if unit in WITHOUT_ENCODINGS:
        argv.append("--ignore-encoding")
    for name in skip:
        argv += ["--skiptest", f"/^{name}$"]
    with ExitStack() as stack:
        if server is None and not reference:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="crdt-redis-suite-"))
            suite = stand_in(suite, Path(folder))
        done = subprocess.run(argv, cwd=suite, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False)
    text = done.stdout.decode("utf-8", "replace")
    return read(text), text


def agree(cluster: Cluster) -> str:
    """What is wrong when two replicas that are in sync do not hold the same, or one of them does
    not after a restart; else nothing."""
    try:
        # a unit may leave a pause, in which nothing expires
        cluster[0]("CLIENT", "UNPAUSE")
        time.sleep(0.5)
        cluster.sync()
        cluster.assert_converged()
        before = cluster.digests()
        cluster[0].stop()
        cluster[0].start()
        cluster.sync()
        cluster.assert_converged()
        return "" if cluster.digests() == before else "after a restart"
    except (AssertionError, ReplyError) as e:
        return str(e)


def justified(unit: str, name: str) -> str | None:
    """Why this test may fail, if there is a reason."""
    return next((reason for pattern, reason in DIFFERENCES.get(unit, [])
                 if re.fullmatch(pattern, name)), None)


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("suite", type=Path, help="a checkout of Redis 7.2.4")
    p.add_argument("units", nargs="*", help="units to run (all that UNITS names)")
    p.add_argument("--reference", action="store_true", help="run against redis-server")
    p.add_argument("--peer", action="store_true",
                   help="run against one of two replicas; both must hold the same in the end, "
                        "restarted or not")
    p.add_argument("--timeout", type=int, default=120, help="seconds that one test may take")
    p.add_argument("--keep", type=Path, metavar="DIR",
                   help="write what the suite printed to DIR/<unit>.txt")
    a = p.parse_args()
    report = 0
    print(f"{'unit':<16}{'of':>5}{'passed':>8}{'listed':>8}{'failed':>8}"
          f"{'not run':>9}{'ignored':>9}")
    try:
        for unit in a.units or UNITS:
            cluster = Cluster(2 if a.peer else 1, appendfsync="no", enable_debug_command="yes")
            own = unit in OWN
            server = (None if own else
                      Reference("--save", "", "--enable-protected-configs", "yes").start()
                      if a.reference else cluster.start()[0])
            hanging = [] if a.reference else HANGING.get(unit, [])
            found, text = run(a.suite.resolve(), unit, server, hanging, a.timeout, a.reference)
            if a.keep:
                a.keep.mkdir(parents=True, exist_ok=True)
                (a.keep / f"{unit.replace('/', '-')}.txt").write_text(text)
            alive = own or server.process.poll() is None
            differ = agree(cluster) if a.peer and alive and not own else ""
            for s in (*([] if own else [server]), *cluster):
                s.dispose()
            reasons = {name: None if a.reference else justified(unit, name)
                       for name in found.failed}
            listed = [name for name, reason in reasons.items() if reason]
            wrong = [name for name, reason in reasons.items() if not reason]
            total = UNITS.get(unit, 0)
            not_run = max(0, total - len(found.passed) - len(found.failed))
            print(f"{unit:<16}{total:>5}{len(found.passed):>8}{len(listed):>8}{len(wrong):>8}"
                  f"{not_run:>9}{len(found.ignored):>9}", flush=True)
            for name in wrong:
                print(f"  failed: {name}\n    {found.failed[name]}")
            for text in found.broken:
                print(f"  broke off: {text}")
            if not alive:
                print(f"  the server ended:\n{server.log()}")
            if differ:
                print(f"  the replicas differ: {differ}")
            stale = ([] if a.reference
                     else [n for n in found.passed
                           if not (justified(unit, n) or "sometimes").startswith("sometimes")])
            for name in stale:
                print(f"  passes, but is listed as different: {name}")
            report += len(wrong) + len(found.broken) + len(stale) + (not alive) + bool(differ) + (
                    not_run > len(found.skipped))
    finally:
        stop_all()
    return 1 if report else 0


if __name__ == "__main__":
    sys.exit(main())
