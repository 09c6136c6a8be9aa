"""What the executable is made of (SBOM), in CycloneDX's JSON: the distributions of Python, Debian's
packages and the interpreter of which PyInstaller's tables and pack.py took a file. Run by build.sh
with the interpreter that has them installed.

    sbom.py PYINSTALLER'S_WORK_DIRECTORY LIBRARIES EXECUTABLE OUTPUT
"""
import ast
import datetime
import hashlib
import json
import os
import platform
import re
import ssl
import subprocess
import sys
import uuid
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path
from urllib.parse import quote

work, libraries, executable, output = map(Path, sys.argv[1:])


def strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from strings(item)


def licence(d: Distribution) -> list[dict]:
    expression = d.metadata.get("License-Expression")
    if expression:
        return [{"expression": expression}]
    names = [c.rsplit(" :: ", 1)[1] for c in d.metadata.get_all("Classifier") or ()
             if c.startswith("License :: ") and not c.endswith("OSI Approved")]
    line = (d.metadata.get("License") or "").strip()
    if not names and line and "\n" not in line:
        names = [line]
    return [{"license": {"name": name}} for name in names]


def component(kind: str, name: str, version: str, purl: str, **more: object) -> dict:
    return {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl,
            **{k: v for k, v in more.items() if v}}


def of_distribution(d: Distribution) -> dict:
    name = d.metadata["Name"]
    purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{d.version}"
    return component("library", name, d.version, purl, description=d.metadata.get("Summary"),
                     licenses=licence(d))


def of_debian(path: Path) -> dict | None:
    """The package that owns a file of the system's; None: none does."""
    for name in (path.resolve(), Path("/usr", *path.resolve().parts[1:]), path):
        found = subprocess.run(["dpkg-query", "--search", str(name)], capture_output=True,
                               text=True).stdout
        if found:
            owner = found.split(": ")[0].split(",")[0]
            name, version, arch = subprocess.run(
                ["dpkg-query", "-W", "-f", "${Package} ${Version} ${Architecture}", owner],
                capture_output=True, text=True, check=True).stdout.split()
            return component("library", name, version,
                             f"pkg:deb/debian/{name}@{quote(version)}?arch={arch}")
    return None


taken = {Path(s) for name in ("PYZ-00.toc", "COLLECT-00.toc")
         for s in strings(ast.literal_eval((work / name).read_text())) if s.startswith("/")}
taken |= {Path(line) for line in libraries.read_text().splitlines()}
# PyInstaller's own part of the executable is its bootloader.
found = [of_distribution(distribution("pyinstaller"))]
owners = {Path(str(d.locate_file(f))).resolve(): d for d in distributions() for f in d.files or ()}
rest = set()
for path in taken:
    if path.is_relative_to(work) or not path.is_file():
        continue
    if path.resolve() in owners:
        found.append(of_distribution(owners[path.resolve()]))
    elif "site-packages" not in path.parts:
        rest.add(path)
base = Path(sys.base_prefix).resolve()
if any(p.resolve().is_relative_to(base) for p in rest):
    version = platform.python_version()
    found.append(component("library", "cpython", version, f"pkg:generic/cpython@{version}",
                           licenses=[{"license": {"id": "Python-2.0"}}]))
for path in sorted(rest):
    if base == Path("/usr") or not path.resolve().is_relative_to(base):
        owner = of_debian(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        found.append(owner or {"type": "file", "bom-ref": f"file:{path.name}", "name": path.name,
                               "hashes": [{"alg": "SHA-256", "content": digest}]})
if not any(c["name"].startswith("libssl") for c in found):        # it is the interpreter's own
    version = ssl.OPENSSL_VERSION.split()[1]
    found.append(component("library", "openssl", version, f"pkg:generic/openssl@{version}"))
# What lupa has built in, of which the one file is taken.
for path in (p for p in taken if p.parent.name == "lupa" and p.suffix == ".so"):
    version = re.search(rb"\0LuaJIT (\d+\.\d+\.\d+)\0", path.read_bytes())[1].decode()
    found.append(component("library", "luajit", version, f"pkg:generic/luajit@{version}",
                           licenses=[{"license": {"id": "MIT"}}]))
by_ref = {c["bom-ref"]: c for c in found}
own = next(c for c in by_ref.values() if c["name"] == "crdtredis")
digest = hashlib.sha256(executable.read_bytes()).hexdigest()
made = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.UTC)
others = [by_ref[ref] for ref in sorted(by_ref) if by_ref[ref] is not own]
output.write_text(json.dumps({
    "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json", "bomFormat": "CycloneDX",
    "specVersion": "1.6", "version": 1,
    "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}",
    "metadata": {"timestamp": made.strftime("%Y-%m-%dT%H:%M:%SZ"),
                 "component": own | {"type": "application", "name": "crdt-redis",
                                     "hashes": [{"alg": "SHA-256", "content": digest}]}},
    "components": others,
    "dependencies": [{"ref": own["bom-ref"], "dependsOn": [c["bom-ref"] for c in others]}],
}, indent=1) + "\n")
print(f"{output}: {len(others)} components")
