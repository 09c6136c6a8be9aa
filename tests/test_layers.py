"""Imports run downward only. A folder is a floor; what stands on a lower floor knows nothing of
what stands above it.

    __main__, cli, demo    the command line
    server                 puts the parts together
    http                   HTTP routes, over replication
    replication            the sync thread
    storage                files, over the kernel
    commands               handlers, over the engine
    info                   what the server tells about itself
    _engine                loop and dispatch
    commands.table         what a command is
    _core, _resp           kernel and codec: they know nothing of each other
    config                 the settings in force
    sources                files and flags
    settings               their declarations
    kinds, redisconf, errors, logs, buffer, numbers, clocks

Imports made inside a function count like others, those under TYPE_CHECKING do not. In Cython files
cimports count as well.
"""
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "crdtredis"
FLOORS = [
    {"redisconf", "kinds", "errors", "logs", "buffer", "numbers", "clocks", "__init__"},
    {"settings"},
    {"sources"},
    {"config"},
    {"_core", "_resp"},
    {"commands.table"},
    {"_engine"},
    {"info"},
    {"commands"},
    {"storage"},
    {"replication"},
    {"http"},
    {"server"},
    {"demo"},
    {"cli"},
    {"__main__"},
]
IMPORT = re.compile(r"^\s*(?:from\s+crdtredis(\.[\w.]+)?\s+c?import\s+(\(?[\w, "
                    r"]+)|c?import\s+crdtredis\.([\w.]+))", re.M)


def unit(path: Path) -> str:
    """The floor's member a file belongs to: "_core" for core/table.pxi, "commands.table" for
    commands/table.py."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts[0] in ("core", "resp", "engine"):
        return "_" + parts[0]
    return member(".".join(parts))


def member(module: str) -> str:
    return module if module == "commands.table" else module.split(".")[0]


def floor(name: str) -> int:
    for i, members in enumerate(FLOORS):
        if name in members:
            return i
    raise AssertionError(f"{name} stands on no floor: add it to FLOORS")


def imports(path: Path) -> set[str]:
    text = re.sub(r"^if TYPE_CHECKING:\n(?:[ \t]+.*\n|\n)*", "", path.read_text(), flags=re.M)
    found = set()
    for package, names, module in IMPORT.findall(text):
        if module or package:
            found.add(module or package.lstrip("."))
        else:
            found.update(n.strip(" (") for n in names.split(",") if n.strip(" (")
                         and not n.strip().startswith("__")
                         and not n.strip(" (").isupper())
    if "commands" in found:                     # from crdtredis.commands import table
        found = (found - {"commands"}) | {f"commands.{n}"
                                          for n in re.findall(
                                              r"from crdtredis\.commands c?import (\w+)", text)}
    return {member(m) for m in found}


SOURCES = [p for pattern in ("*.py", "*.pyx", "*.pxd", "*.pxi") for p in PACKAGE.rglob(pattern)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_downward(path):
    me = unit(path)
    for other in imports(path) - {me}:
        assert floor(other) < floor(me), f"{path.relative_to(PACKAGE)} ({me}) imports {other}"


def test_kernel_and_codec_name_no_policy():
    for name in ("_core", "_resp"):
        for path in SOURCES:
            if unit(path) == name:
                assert imports(path) <= {"buffer", "errors", "numbers", "_core", "_resp"}, path
