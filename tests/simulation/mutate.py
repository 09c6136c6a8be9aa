"""Are the tests awake? Breaks the sources on purpose, one fault at a time: does a test notice?

    python -m tests.simulation.mutate                 # all faults; an hour and a half on two cores
    python -m tests.simulation.mutate --part          # the fortieth whose turn it is now
    python -m tests.simulation.mutate --only "later"  # those whose name contains the word
    python -m tests.simulation.mutate --search        # tries every check of the area, not one
    python -m tests.simulation.mutate --list

A property counts only after a deliberate fault has made it fail. faults/ has them. Each
names the file, the text to replace, and the one test that must catch it: the smallest one that
does. The script copies the checkout into temporary directories, one for each job. There it
replaces the text, builds the module, and runs that test.

It ends with 1 when the test misses its fault, when the test fails without any fault (which is not
tried with --trust, as beside a run of all tests), or when the text does not stand in its file
exactly once: then the fault must be written anew. White space does not count in the comparison, so
lines may be wrapped and indented anew. With --search it says which test catches a fault.

CI runs one fortieth at each commit. Forty commits in a row run all of them.
"""
from __future__ import annotations

import argparse
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from datetime import date
from pathlib import Path

from tests.simulation.faults import FAULTS, Fault

ROOT = Path(__file__).resolve().parents[2]
PARTS = 40
LONGEST = 900                           # seconds of one check: a fault may make it hang
TRIES = 2                               # of a check without any fault: a busy machine is no fault
# The modules of which a part is built alone: no other module needs to be built with it.
MODULES = {"crdtredis/core/": "_core", "crdtredis/engine/": "_engine", "crdtredis/resp/": "_resp"}

# Checks that are programs. Any other check is arguments of pytest, below tests/.
PROGRAMS = {
    "simulation": ["tests.simulation.world", "--schedules", "300"],
    "long simulation": ["tests.simulation.world", "--first", "301", "--schedules", "2500"],
    "interleavings": ["tests.simulation.test_interleavings"],
}
KERNEL = ["core", "commands/test_numbers.py", "commands/test_sizes.py", "commands/test_blocking.py",
          "simulation", "interleavings", "simulation/test_pops.py", "simulation/test_inserts.py",
          "engine", "long simulation"]
# --search: what to try for a file, by the beginning of its path.
SEARCHED = {
    "crdtredis/core/": KERNEL,
    "crdtredis/storage/": ["storage"],
    "crdtredis/replication/": ["replication", "commands/test_server.py"],
    "crdtredis/http/": ["http", "replication"],
    "crdtredis/": ["commands", "engine", "replication", *KERNEL],
}


# ---- the text ------------------------------------------------------------------------------------

SPACE = r"(?:\s|\\\n)"                  # a line may go on behind a backslash
INDENT = "    "


def pattern(text: str) -> re.Pattern:
    """Matches text with any white space between its words and signs. A text that begins with an
    indent begins a line; one that ends with a line break ends a line."""
    tokens = re.findall(r"\w+|[^\w\s]", text)
    body = re.escape(tokens[0])
    for before, token in zip(tokens, tokens[1:]):
        both_words = re.match(r"\w", before) and re.match(r"\w", token)
        body += SPACE + ("+" if both_words else "*") + re.escape(token)
    begins_line = text.lstrip("\n").startswith(INDENT)
    begin = (r"^(?P<indent>[ \t]*)" if begins_line else r"(?<!\w)" if re.match(r"\w", text)
             else SPACE + "*" if text[0].isspace() else "")
    end = r"(?=[ \t]*$)" if text.endswith("\n") else r"(?!\w)" if re.search(r"\w$", text) else ""
    return re.compile(f"{begin}(?P<body>{body}){end}", re.M)


def replaced(source: str, fault: Fault) -> list[str]:
    """The source with the fault in it: one for each place where its text stands."""
    old, new = fault.old.lstrip("\n"), fault.new.strip("\n")
    results = []
    for m in pattern(fault.old).finditer(source):
        if "indent" not in m.groupdict():
            results.append(source[:m.start()] + new + source[m.end():])
            continue
        moved = len(m["indent"]) - (len(old) - len(old.lstrip()))
        lines = [" " * (len(x) - len(x.lstrip()) + moved) + x.lstrip() for x in new.split("\n")]
        body = "\n".join(lines) if new else m["indent"] + "pass"
        results.append(source[:m.start()] + body + source[m.end():])
    return results


# ---- the checks ----------------------------------------------------------------------------------

def program(check: str) -> list[str]:
    if check in PROGRAMS:
        return [sys.executable, "-m", *PROGRAMS[check]]
    return [sys.executable, "-m", "pytest", "-q", "-x", "--tb=no", "-rfE", "-p", "no:cacheprovider",
            *(f"tests/{argument}" for argument in check.split())]


def searched(fault: Fault) -> list[str]:
    return next(checks for path, checks in SEARCHED.items() if fault.path.startswith(path))


class Copy:
    """A scratch copy of the checkout in which one job works. Faults in Python need no build, so
    they are tried with the modules as they are in the checkout; others with modules that are built
    in the copy, with assertions and without optimisation."""

    def __init__(self, folder: Path, built: Copy | None = None, compiled: bool = True) -> None:
        """built: another copy, whose modules are taken over."""
        self.folder = folder
        left_out = [".git", ".venv", "build", "dist", "__pycache__", ".hypothesis"]
        if built is None and compiled:
            left_out += ["*.so"]
        source = built.folder if built else ROOT
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns(*left_out))
        if built is None and compiled:
            for generated in folder.glob("crdtredis/**/*.c"):
                generated.unlink()
            self.build()

    def run(self, argv: list[str], seconds: float) -> tuple[int | None, str]:
        """What the program returns (None: it hangs) and what it said."""
        env = os.environ | {"CRDT_REDIS_BUILD": "debug", "CRDT_MODEL_SCHEDULES": "1000",
                            "PYTHONDONTWRITEBYTECODE": "1"}
        process = subprocess.Popen(argv, cwd=self.folder, env=env, start_new_session=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   text=True, errors="replace")
        try:
            said = process.communicate(timeout=seconds)[0]
            return process.returncode, said
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return None, process.communicate()[0]

    def build(self) -> None:
        """Raises RuntimeError when the sources do not compile."""
        argv = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
        result, said = self.run(argv, LONGEST)
        if result != 0:
            raise RuntimeError(said[-2000:])

    def write(self, path: str, text: str) -> None:
        """Cython builds every module anew whose parts are newer than it. So a part keeps its time,
        and the one module that it goes into is removed."""
        file = self.folder / path
        before = file.stat()
        file.write_text(text)
        module = next((m for p, m in MODULES.items() if path.startswith(p)), None)
        if module and path.endswith(".pxi"):
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
            for built in self.folder.glob(f"crdtredis/{module}.*"):
                if built.suffix in (".c", ".so"):
                    built.unlink()

    def caught_by(self, checks: list[str]) -> str | None:
        """The first of the checks that fails, or hangs."""
        for check in checks:
            result, said = self.run(program(check), LONGEST)
            if result is None:
                return f"{check} (it hangs)"
            if result == 4:                     # pytest: no such test
                return None
            if result:
                test = re.search(r"^(?:FAILED|ERROR) tests/(\S+?)(?:\[|\s|$)", said, re.M)
                return test[1] if test else check
        return None

    def try_(self, fault: Fault, search: bool) -> tuple[bool, str]:
        """Whether the fault was caught, and what happened."""
        text = (self.folder / fault.path).read_text()
        found = replaced(text, fault)
        if len(found) != 1:
            return False, f"OUT OF DATE: the text is there {len(found)} times"
        self.write(fault.path, found[0])
        try:
            if not fault.path.endswith(".py"):
                self.build()
            checks = [fault.test, *searched(fault)] if search else [fault.test]
            by = self.caught_by(checks)
            return by is not None, f"caught by {by}" if by else f"NOT CAUGHT by {', '.join(checks)}"
        except RuntimeError as e:
            return False, f"DOES NOT COMPILE: {e}"
        finally:
            self.write(fault.path, text)


# ---- the run -------------------------------------------------------------------------------------

def turn() -> int:
    """Which fortieth this commit runs: by the number of commits before it, where the history is
    whole; else by its name. Without a repository, by the day."""
    def git(*argv: str) -> str:
        return subprocess.run(["git", *argv], cwd=ROOT, capture_output=True, text=True,
                              check=True).stdout.strip()

    try:
        if git("rev-parse", "--is-shallow-repository") == "true":
            return int(git("rev-parse", "HEAD"), 16) % PARTS
        return int(git("rev-list", "--count", "HEAD")) % PARTS
    except (OSError, subprocess.CalledProcessError):
        return date.today().toordinal() % PARTS


def run(faults: list[Fault], jobs: int, search: bool, trust: bool) -> int:
    """Tries the faults. Returns how many no test caught."""
    bad: list[str] = []
    with tempfile.TemporaryDirectory(prefix="crdt-redis-mutate-") as d:
        for compiled in (False, True):
            chosen = [f for f in faults if f.path.endswith(".py") != compiled]
            if chosen:
                folder = Path(d) / ("compiled" if compiled else "python")
                bad += try_all(chosen, folder, jobs, search, trust)
    print(f"{len(faults) - len(bad)} of {len(faults)} faults caught")
    return len(bad)


def try_all(faults: list[Fault], folder: Path, jobs: int, search: bool,
            trust: bool) -> list[str]:
    """Tries faults that are all in Python, or all in what is compiled. Returns the names of those
    that no test caught."""
    first = Copy(folder / "0", compiled=not faults[0].path.endswith(".py"))
    bad: list[str] = []
    for check in sorted({f.test for f in faults}) if not search and not trust else ():
        for _ in range(TRIES):
            result, said = first.run(program(check), LONGEST)
            if result == 0:
                break
        else:
            print(f"{said}\n{check} fails without any fault", flush=True)
            bad += [f.name for f in faults if f.test == check]
    copies = [first] + [Copy(folder / str(n), first) for n in range(1, jobs)]
    waiting: queue.SimpleQueue[Fault] = queue.SimpleQueue()
    for fault in faults:
        if fault.name not in bad:
            waiting.put(fault)

    def work(copy: Copy) -> None:
        while not waiting.empty():
            try:
                fault = waiting.get_nowait()
            except queue.Empty:
                return
            begun = time.monotonic()
            caught, what = copy.try_(fault, search)
            if not caught:
                bad.append(fault.name)
            print(f"{fault.name:70} {what} ({time.monotonic() - begun:.0f} s)", flush=True)

    threads = [threading.Thread(target=work, args=(copy,)) for copy in copies]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return bad


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--only", default="", help="the faults whose name contains this")
    p.add_argument("--part", nargs="?", type=int, const=-1, metavar="N",
                   help="one fortieth of the faults: N, from 0 to 39, else this commit's")
    p.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1))
    p.add_argument("--trust", action="store_true", help="the tests pass without any fault")
    p.add_argument("--search", action="store_true", help="try every check of the area")
    p.add_argument("--list", action="store_true", help="only say which")
    a = p.parse_args()
    faults = [f for f in FAULTS if a.only in f.name]
    if a.part is not None:
        faults = faults[(turn() if a.part < 0 else a.part) % PARTS::PARTS]
    if a.list:
        print(*(f.name for f in faults), sep="\n")
        return 0
    return 1 if run(faults, a.jobs, a.search, a.trust) else 0


if __name__ == "__main__":
    sys.exit(main())
