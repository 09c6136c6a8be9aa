"""Imports run downward only. A folder is a floor; what stands on a lower floor knows nothing of
what stands above it.

    __main__, cli, manual, tools, demo, healthcheck    the command line
    server                 puts the parts together
    moving                 moving data in and out, over the codec of values
    http                   HTTP routes, over replication
    replication            the sync thread
    storage                files, over the kernel
    commands               handlers, over the engine
    info                   what the server tells about itself
    certificates           what TLS is made of
    sockets                addresses that are listened at
    _engine                loop and dispatch
    commands.table         what a command is
    _lua                   scripts, over the codec: it knows no command
    _core, _resp           kernel and codec: they know nothing of each other
    config                 the settings in force
    sources                files and flags
    settings               their declarations
    acl                    users and their rules
    audit                  what administrators do
    arguments              those of the command line's tools
    kinds, redisconf, errors, logs, buffer, glob, numbers, xxh3, clocks, staleness, advice

Imports made inside a function count like others, those under TYPE_CHECKING do not. In Cython files
cimports count as well.
"""
import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "crdtredis"
FLOORS = [
    {"redisconf", "kinds", "errors", "logs", "buffer", "glob", "numbers", "xxh3", "clocks",
     "staleness", "advice", "__init__"},
    {"settings", "members", "acl", "audit", "arguments"},
    {"sources"},
    {"config"},
    {"_core", "_resp"},
    {"_lua"},
    {"commands.table"},
    {"_engine"},
    {"info", "certificates", "sockets"},
    {"commands"},
    {"storage"},
    {"replication"},
    {"http"},
    {"moving", "tracing"},
    {"server"},
    {"demo", "healthcheck"},
    {"tools"},
    {"manual"},
    {"cli"},
    {"__main__"},
]
IMPORT = re.compile(r"^\s*(?:from\s+crdtredis(?:\.([\w.]+))?\s+c?import\s+(\([^)]*\)|.*)"
                    r"|c?import\s+crdtredis\.([\w.]+))", re.M)
# Modules whose test stands elsewhere than where their name says.
TESTED_IN = {
    "__main__": "test_cli.py", "arguments": "test_cli.py", "tools": "test_cli.py",
    "members": "replication/test_members.py", "staleness": "core/test_delays.py",
    "advice": "core/test_origins.py",
    "errors": "commands/test_against_redis.py", "acl": "commands/test_acl.py",
    "certificates": "real/test_tls.py", "sockets": "test_server_process.py",
    "info": "commands/test_server.py", "server": "test_server_process.py",
    "kinds": "test_config.py", "settings": "test_config.py", "sources": "test_config.py",
    "storage.batch": "storage/test_segments.py", "storage.chain": "storage/test_recovery.py",
    "storage.exchange": "real/test_full_sync.py", "storage.followers": "real/test_following.py",
    "storage.format": "storage/test_recovery.py", "storage.lock": "storage/test_identity.py",
    "replication.agreement": "real/test_ended_processes.py",
    "replication.flow": "replication/test_bodies.py",
    "replication.giving": "real/test_full_sync.py",
    "replication.local": "replication/test_peers.py",
    "replication.peer": "replication/test_peers.py",
    "replication.receiving": "real/test_full_sync.py",
    "replication.registry": "replication/test_links.py",
    "replication.runtime": "replication/test_peers.py",
    "replication.verify": "real/test_full_sync.py",
    "replication.sessions": "replication/test_links.py",
    "replication.tail": "replication/test_peers.py",
    "moving.backing_up": "real/test_backup.py", "moving.progress": "real/test_import.py",
    "storage.backup": "real/test_backup.py", "moving.following": "real/test_following.py",
    "storage.restore": "real/test_point_in_time.py", "storage.shipping": "real/test_following.py",
    "moving.mirror": "real/test_mirror.py",
    "moving.exporting": "real/test_export.py", "moving.whole": "real/test_export.py",
    "moving.importing": "real/test_import.py", "moving.source": "real/test_import.py",
    "moving.target": "real/test_import.py",
    "http.app": "http/test_web_pages.py", "http.metrics": "http/test_operators.py",
    "http.operated": "http/test_operators.py",
}


def unit(path: Path) -> str:
    """The floor's member a file belongs to: "_core" for core/table.pxi, "commands.table" for
    commands/table.py."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts[0] in ("core", "resp", "lua", "engine"):
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
    """What a file imports of this package, by floor member."""
    text = path.read_text()
    found = set()
    if path.suffix == ".py":
        tree = ast.parse(text)
        typing = {id(x) for node in ast.walk(tree) if isinstance(node, ast.If)
                  and ast.unparse(node.test) == "TYPE_CHECKING" for x in ast.walk(node)}
        for node in ast.walk(tree):
            if id(node) in typing:
                continue
            if isinstance(node, ast.Import):
                found |= {a.name.removeprefix("crdtredis.") for a in node.names
                          if a.name.startswith("crdtredis.")}
            elif isinstance(node, ast.ImportFrom):
                package, _, inner = (node.module or "").partition(".")
                if package == "crdtredis":
                    found |= modules(inner, [a.name for a in node.names])
    else:
        for package, names, module in IMPORT.findall(text):
            found |= {module} if module else modules(package, re.findall(r"\w+", names))
    return {member(m) for m in found}


def modules(package: str, names: list[str]) -> set[str]:
    """What `from crdtredis.package import names` imports."""
    if package in ("", "commands"):
        parts = {n for n in names if not n.startswith("__") and not n.isupper()}
        return {f"{package}.{n}".lstrip(".") for n in parts}
    return {package}


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
                assert imports(path) <= {"buffer", "errors", "glob", "numbers", "xxh3",
                                         "_core", "_resp"}, path


def python_modules() -> list[str]:
    """Those that `commands` and the generated files are not among: commands are tested by group."""
    names = (".".join(p.relative_to(PACKAGE).with_suffix("").parts) for p in PACKAGE.rglob("*.py"))
    return sorted(n for n in names if not n.endswith(("__init__", "_pb2"))
                  and not n.startswith("commands."))


@pytest.mark.parametrize("module", python_modules())
def test_tests_mirror_modules(module):
    folder, _, name = module.rpartition(".")
    test = PACKAGE.parent / "tests" / TESTED_IN.get(module, f"{folder}/test_{name}.py".lstrip("/"))
    assert test.exists(), "give the module a test of its name, or say in TESTED_IN where it is"


def test_what_is_said_of_tests_is_so():
    assert set(TESTED_IN) <= set(python_modules())
