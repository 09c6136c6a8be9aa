"""Lays the executable out as a package holds it: unpacked once, for all users, with nothing to
write to (launcher.c says how the executable is made, and finds this).

    ROOT/usr/bin/crdt-redis              the launcher, the index, and no contents
    ROOT/usr/lib/crdt-redis/NAME/...     the contents

    unpack.py EXECUTABLE ROOT
"""
import struct
import sys
import zlib
from pathlib import Path

FOOTER = 48
LOADER = "_internal/ld-linux.so.2"


def lay_out(executable: Path, root: Path) -> None:
    data = executable.read_bytes()
    footer = data[-FOOTER:]
    if footer[-8:] != b"CRDTPACK":
        raise SystemExit(f"{executable}: not what pack.py makes")
    index_at, index_size, stream_at = struct.unpack("=QQQ", footer[:24])
    index = data[index_at:index_at + index_size]
    contents = zlib.decompress(data[stream_at:index_at])
    program = root / "usr/bin/crdt-redis"
    put(program, data[:stream_at] + index + struct.pack("=QQQ", stream_at, index_size, stream_at)
        + footer[24:], 0o755)
    folder = root / "usr/lib/crdt-redis" / footer[24:40].decode()
    at = begin = 0
    while at < len(index):
        name_size, mode, size = struct.unpack_from("=IIQ", index, at)
        name = index[at + 16:at + 16 + name_size].decode()
        # of shared objects only the loader is a program
        is_program = mode & 0o100 and (".so" not in name or name == LOADER)
        put(folder / name, contents[begin:begin + size], 0o755 if is_program else 0o644)
        at, begin = at + 16 + name_size, begin + size


def put(path: Path, data: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)


if __name__ == "__main__":
    lay_out(*map(Path, sys.argv[1:]))
