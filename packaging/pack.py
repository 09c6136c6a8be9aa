"""Puts the one file together: launcher, then PyInstaller's directory with the C library added. See
launcher.c for the format.

    pack.py LAUNCHER DIRECTORY OUTPUT LIBRARIES

Into LIBRARIES goes what was added of this machine, one path a line (for sbom.py).
"""
import hashlib
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

launcher, directory, output, added = map(Path, sys.argv[1:])
files = {str(p.relative_to(directory)): p for p in sorted(directory.rglob("*")) if p.is_file()}

# The C library is not among what PyInstaller collects, since it must match the loader; here both
# are added. What else each program and library needs and the directory does not have is found as
# the dynamic loader would.
needed: dict[str, Path] = {}
binaries = [p for name, p in files.items() if ".so" in name or name == "crdt-redis"]
known = {p.name for p in files.values()}
for binary in binaries:
    listed = subprocess.run(["ldd", str(binary)], capture_output=True, text=True,
                            env=os.environ |
                            {"LD_LIBRARY_PATH": str(directory / "_internal")}).stdout
    for name, path in re.findall(r"^\s*(\S+) => (/\S+)", listed, re.M):
        if name not in known:
            needed[name] = Path(path)
interpreter = subprocess.run(["readelf", "-p", ".interp", str(directory / "crdt-redis")],
                             capture_output=True, text=True, check=True).stdout
loader = re.search(r"(/\S+)", interpreter.split("]", 1)[1])[1]
files |= {f"_internal/{name}": path for name,
          path in sorted(needed.items())} | {"_internal/ld-linux.so.2": Path(loader)}
added.write_text("".join(f"{path}\n" for path in (*needed.values(), Path(loader))))

index, packer, parts, digest = b"", zlib.compressobj(9), [], hashlib.sha256()
for name, path in files.items():
    content = path.read_bytes()
    digest.update(name.encode() + b"\0" + content)
    mode = 0o700 if os.access(path, os.X_OK) or name == "_internal/ld-linux.so.2" else 0o600
    index += struct.pack("=IIQ", len(name.encode()), mode, len(content)) + name.encode()
    parts.append(packer.compress(content))
stream = b"".join([*parts, packer.flush()])
head = launcher.read_bytes()
footer = struct.pack("=QQQ", len(head) + len(stream), len(index),
                     len(head)) + digest.hexdigest()[:16].encode() + b"CRDTPACK"
output.parent.mkdir(exist_ok=True)
output.write_bytes(head + stream + index + footer)
output.chmod(0o755)
print(f"{output}: {output.stat().st_size:,} bytes in one file, "
      f"{sum(p.stat().st_size for p in files.values()):,} unpacked")
