"""Builds the compiled modules: every crdtredis/_*.pyx and crdtredis/commands/*.pyx.

CRDT_REDIS_BUILD chooses the kind: "release" (default), "debug" (assertions, no optimisation),
"sanitize" (AddressSanitizer and UndefinedBehaviorSanitizer; tests/sanitize.sh), "fuzz" (the same,
and coverage for libFuzzer: clang; tests/fuzz/run.py).
"""
import ast
import fcntl
import json
import os
import shutil
import sysconfig
from glob import glob
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup


def need_compiler():
    """One line in place of pages of a failing build."""
    compiler = os.environ.get("CC", sysconfig.get_config_var("CC") or "cc").split()[0]
    include = sysconfig.get_path("include")
    if shutil.which(compiler) is None:
        raise SystemExit(f"crdtredis: building it takes a C compiler, and there is no {compiler} "
                         "(Debian: apt-get install gcc libc6-dev)")
    if not os.path.exists(os.path.join(include, "Python.h")):
        raise SystemExit(f"crdtredis: building it takes Python's headers, and {include} has none "
                         "(Debian: apt-get install python3-dev)")


def declare_texts():
    """Makes crdtredis/errors.pxd of errors.py: each text of an error reply as a literal in C."""
    texts = {node.targets[0].id: node.value.value
             for node in ast.parse(Path("crdtredis/errors.py").read_text()).body
             if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
             and isinstance(node.value.value, str)}
    lines = ["# Made by setup.py of errors.py, where the texts are.", "", "cdef extern from *:",
             '    """']
    for name, text in texts.items():
        pieces = [json.dumps(text[i:i + 80]) for i in range(0, len(text), 80)]
        lines += (" \\\n        ".join([f"    #define CRDT_{name}", *pieces])
                  .replace("\\", "\\\\").split("\n"))         # Cython takes the first of two
    lines += ['    """'] + [f'    const char *{name} "CRDT_{name}"' for name in texts]
    made, out = "\n".join(lines) + "\n", Path("crdtredis/errors.pxd")
    if not out.exists() or out.read_text() != made:
        out.write_text(made)


need_compiler()
SANITIZE = ["-O1", "-g", "-DCRDT_DEBUG=1", "-fno-omit-frame-pointer",
            "-fno-sanitize-recover=undefined"]
KINDS = {
    "release": (["-O2", "-fno-strict-aliasing"], []),
    "debug": (["-O0", "-g", "-DCRDT_DEBUG=1"], []),
    "sanitize": ([*SANITIZE, "-fsanitize=address,undefined"], ["-fsanitize=address,undefined"]),
    "fuzz": ([*SANITIZE, "-fsanitize=address,undefined,fuzzer-no-link"],
             ["-fsanitize=address,undefined"]),
}
compile_args, link_args = KINDS[os.environ.get("CRDT_REDIS_BUILD", "release")]
# Floating point must give the same bits in every replica, so no contraction into fused
# multiply-add.
compile_args = [*compile_args, "-ffp-contract=off", "-Wno-unused-function"]


def extensions():
    for source in sorted(glob("crdtredis/_*.pyx") + glob("crdtredis/commands/*.pyx")):
        name = ".".join(Path(source).with_suffix("").parts)
        yield Extension(name, [source], extra_compile_args=compile_args, extra_link_args=link_args)


DIRECTIVES = {"language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True,
              "initializedcheck": False,
              "embedsignature": True}

# What is generated stands beside the sources. So of builds side by side (of other kinds, too) one
# generates at a time, and none while another compiles; it finds all up to date, not half-written.
lock = open("setup.py")
fcntl.flock(lock, fcntl.LOCK_EX)
declare_texts()
modules = cythonize(list(extensions()), compiler_directives=DIRECTIVES)
fcntl.flock(lock, fcntl.LOCK_SH)

setup(ext_modules=modules,
      options={"build_ext": {"parallel": os.cpu_count()}})
