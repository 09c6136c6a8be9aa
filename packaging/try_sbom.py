"""Tries what the executable is said to be made of (sbom.py): that it is this executable, that its
JSON is what CycloneDX 1.6 demands of what is in it, and that every file and Python module in there
is of a component that is named, found by other ways than sbom.py's. Run with the interpreter that
built it (build/package/venv), on the machine that did. Prints what it checked.

    try_sbom.py [EXECUTABLE]
"""
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

from PyInstaller.archive.readers import CArchiveReader
from unpack import lay_out

TYPES = {"application", "framework", "library", "file"}
PURL = re.compile(r"pkg:(pypi/[a-z0-9.-]+|deb/debian/[a-z0-9.+-]+|generic/[a-z]+)@[^@\s]+")


def main(executable: str = "dist/crdt-redis") -> None:
    program = Path(executable)
    bom = json.loads(program.with_name(program.name + ".cdx.json").read_text())
    assert (bom["bomFormat"], bom["specVersion"], bom["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch("urn:uuid:[0-9a-f-]{36}", bom["serialNumber"])
    own = bom["metadata"]["component"]
    assert own["hashes"] == [{"alg": "SHA-256",
                              "content": hashlib.sha256(program.read_bytes()).hexdigest()}]
    components = [own, *bom["components"]]
    refs = [c["bom-ref"] for c in components]
    assert len(set(refs)) == len(refs)
    for c in components:
        assert c["type"] in TYPES and c["name"] and (c["type"] == "file" or c["version"]), c
        assert c["type"] == "file" or PURL.fullmatch(c["purl"]), c
        for each in c.get("licenses", ()):
            assert set(each) in ({"expression"}, {"license"}), c
    assert {r for d in bom["dependencies"] for r in (d["ref"], *d["dependsOn"])} == set(refs)

    named = {c["purl"].split("@")[0].split(":")[1] for c in components if "purl" in c}
    files = {c["name"] for c in components if c["type"] == "file"}
    with tempfile.TemporaryDirectory() as folder:
        lay_out(program, Path(folder))
        content, = Path(folder, "usr/lib/crdt-redis").iterdir()
        missing = [x for x in inside(content) if x not in files and not owners(x) & named]
        count = len(list(inside(content)))
    assert not missing, missing
    assert {"generic/luajit", "pypi/pyinstaller"} <= named     # within others' files
    print(f"ok: {len(components)} components; the {count} files and modules are all theirs")


def inside(content: Path):
    """Paths of files, and names of the modules in archives."""
    for path in content.rglob("*"):
        if path.is_file():
            yield str(path.relative_to(content))
    archive = CArchiveReader(str(content / "crdt-redis"))
    for name in archive.toc:
        if name.upper().startswith("PYZ"):
            modules = archive.open_embedded_archive(name).toc
            yield from (f"{n.replace('.', '/')}.py" for n in modules)


def owners(path: str) -> set[str]:
    """Of which components it may be, as their package URLs begin."""
    path = path.removeprefix("_internal/")
    top = path.split("/")[0].split(".")[0]
    if path == "crdt-redis" or top.startswith(("pyi", "_pyi")):
        return {"pypi/pyinstaller"}
    if "/" not in path and ".so" in path and path.startswith(("lib", "ld-")):
        if path.startswith("libpython"):
            return {"generic/cpython"}
        name = "ld-linux*" if path.startswith("ld-") else path
        found = subprocess.run(["dpkg-query", "--search", f"*/{name}"], capture_output=True,
                               text=True).stdout
        return {f"deb/debian/{line.split(':')[0]}" for line in found.splitlines()}
    if (top in sys.stdlib_module_names or top == "base_library" or "/lib-dynload/" in path
            or top.startswith("_sysconfigdata_")):
        return {"generic/cpython"}
    found = packages_distributions().get(top, ())
    return {"pypi/" + distribution(d).metadata["Name"].lower().replace("_", "-") for d in found}


if __name__ == "__main__":
    main(*sys.argv[1:])
