"""Coverage-guided fuzzing under AddressSanitizer and UBSan.

    python tests/fuzz/run.py [--seconds 60] [TARGET ...]     share the seconds among the targets
                                                             (targets.py; default: all of them)
    python tests/fuzz/run.py TARGET --input FILE             run one input again

Needs clang with its run-time library (Debian: clang, libclang-rt-14-dev) and a Python built with a
shared library. The compiled modules are built by setup.py as the kind "fuzz" into build/fuzz;
harness.c, linked with libFuzzer, holds the Python interpreter. What a run learns stays in
build/fuzz/corpus and the next one goes on from there. An input that fails is left in
build/fuzz/found, and the exit code is 1: mend the fault, then keep the input under a telling name
in tests/fuzz/examples/TARGET.

atheris would do the harness's part, but brings its own sanitizer run-time, which has to match the
compiler's.
"""
from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "fuzz"
HARNESS = BUILD / "harness"


def build() -> dict[str, str]:
    """Builds modules and harness; returns the environment the harness runs in."""
    environment = {**os.environ, "CRDT_REDIS_BUILD": "fuzz", "CC": os.environ.get("CLANG", "clang")}
    subprocess.run([sys.executable, "setup.py", "-q", "build", "-j", "2", "--build-base",
                    str(BUILD), "--build-lib", str(BUILD / "lib")],
                   cwd=ROOT, env=environment, check=True)
    library = sysconfig.get_config_var("LIBDIR")
    subprocess.run([environment["CC"], "-g", "-fsanitize=fuzzer,address,undefined", "-rdynamic",
                    f"-I{sysconfig.get_path('include')}",
                    str(ROOT / "tests/fuzz/harness.c"), "-o", str(HARNESS), f"-L{library}",
                    f"-Wl,-rpath,{library}",
                    f"-lpython{sysconfig.get_config_var('LDVERSION')}"], check=True)
    return {**os.environ,
            "PYTHONHOME": sys.base_prefix,
            "PYTHONPATH": os.pathsep.join([str(BUILD / "lib"), str(ROOT),
                                           *(p for p in sys.path if p.endswith("-packages"))]),
            # so that AddressSanitizer sees the bounds of Python's objects
            "PYTHONMALLOC": "malloc",
            "PYTHONDONTWRITEBYTECODE": "1",
            "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
            "UBSAN_OPTIONS": "print_stacktrace=1"}


def corpus(target: str, environment: dict[str, str]) -> Path:
    """The target's corpus directory, with the seeds and the kept examples in it."""
    folder = BUILD / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    from tests.fuzz.targets import seeds
    for i, data in enumerate([*seeds(target),
                              *(p.read_bytes()
                                for p in (ROOT / "tests/fuzz/examples" / target).glob("*"))]):
        (folder / f"seed-{i:04}").write_bytes(data)
    return folder


def main() -> int:
    sys.path.insert(0, str(ROOT))
    from tests.fuzz.targets import TARGETS
    parser = argparse.ArgumentParser()
    parser.add_argument("targets", nargs="*", metavar="TARGET", default=list(TARGETS))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--input")
    options = parser.parse_args()
    environment = build()
    found = BUILD / "found"
    found.mkdir(exist_ok=True)
    failed = []
    for target in options.targets:
        command = [str(HARNESS), f"-artifact_prefix={found}/{target}-", "-timeout=20",
                   "-rss_limit_mb=4000", "-detect_leaks=0"]
        if options.input:
            command.append(options.input)
        else:
            command += ["-max_len=8192", "-use_value_profile=1", "-print_final_stats=1",
                        "-verbosity=0", "-print_funcs=0",
                        f"-max_total_time={max(1, options.seconds // len(options.targets))}",
                        str(corpus(target, environment))]
        print(f"--- {target}", flush=True)
        if subprocess.run(command, env={**environment, "FUZZ_TARGET": target}, cwd=ROOT).returncode:
            failed.append(target)
    print(f"findings in {', '.join(failed)}: see {found}" if failed
          else f"no finding in {len(options.targets)} targets")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
