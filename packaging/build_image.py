"""Makes an image for containers of the executable alone (build.sh), with nothing but Python: one
layer, no distribution, no shell. The archive is an OCI layout, which podman, skopeo and nerdctl
load, and what `docker load` takes, in one. Two runs make the same bytes.

    build_image.py [EXECUTABLE [ARCHIVE]]

In the image the executable stands unpacked (unpack.py), so it runs with a read-only root. It runs
as user 65532, keeps its data in the volume /data, listens on all addresses (so it wants
CRDT_REQUIREPASS and CRDT_AUTH_TOKEN, and says so), and its health check is its own.
"""
import gzip
import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import tarfile
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from unpack import lay_out

USER = 65532
MACHINES = {62: "amd64", 183: "arm64", 243: "riscv64"}      # e_machine in ELF's header
ENV = {"PATH": "/usr/bin", "CRDT_BIND": "* -::*", "CRDT_DATA_DIR": "/data"}
SECOND = 1_000_000_000


def layer(executable: Path, when: int) -> bytes:
    """Its tar. Owners, times and order are those written here."""
    out = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=out, mode="w",
                                                               format=tarfile.GNU_FORMAT) as tar:
        def add(name: str, mode: int, data: bytes | None = None, owner: int = 0) -> None:
            entry = tarfile.TarInfo(name)
            entry.mode, entry.mtime, entry.uid, entry.gid = mode, when, owner, owner
            entry.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            entry.size = len(data or b"")
            tar.addfile(entry, io.BytesIO(data or b""))

        root = Path(folder)
        lay_out(executable, root)
        boms = executable.with_name(executable.name + ".cdx.json")
        if boms.exists():
            (root / "usr/share/doc/crdt-redis").mkdir(parents=True)
            (root / "usr/share/doc/crdt-redis/sbom.cdx.json").write_bytes(boms.read_bytes())
        for path in sorted(root.rglob("*")):
            is_program = path.is_file() and os.access(path, os.X_OK)
            add(str(path.relative_to(root)), 0o755 if path.is_dir() or is_program else 0o644,
                None if path.is_dir() else path.read_bytes())
        add("etc", 0o755)
        add("etc/passwd", 0o644, b"root:x:0:0::/:/\ncrdt-redis:x:%d:%d::/data:/\n" % (USER, USER))
        add("etc/group", 0o644, b"root:x:0:\ncrdt-redis:x:%d:\n" % USER)
        add("tmp", 0o1777)
        add("data", 0o700, owner=USER)
    return out.getvalue()


def main(executable: str = "dist/crdt-redis", archive: str = "") -> None:
    program = Path(executable).resolve()
    version = subprocess.run([program, "version"], capture_output=True, text=True,
                             check=True).stdout.split()[1]
    when = int(os.environ.get("SOURCE_DATE_EPOCH") or subprocess.run(
        ["git", "log", "-1", "--format=%ct"], capture_output=True, text=True,
        cwd=Path(__file__).parent).stdout or 0)
    created = datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    blobs: dict[str, bytes] = {}

    def blob(kind: str, data: bytes) -> dict:
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}",
                "size": len(data)}

    def text(value: object) -> bytes:
        return json.dumps(value, indent=1).encode()

    tar = layer(program, when)
    about = {"org.opencontainers.image.title": "crdt-redis",
             "org.opencontainers.image.description": "active-active Redis",
             "org.opencontainers.image.version": version,
             "org.opencontainers.image.created": created,
             "org.opencontainers.image.licenses": "MIT"}
    machine, = struct.unpack_from("=H", program.read_bytes()[:20], 18)
    config = blob("config.v1+json", text({
        "architecture": MACHINES[machine], "os": "linux", "created": created,
        "config": {
            "User": f"{USER}:{USER}", "Env": [f"{k}={v}" for k, v in ENV.items()],
            "Entrypoint": ["/usr/bin/crdt-redis"], "WorkingDir": "/data",
            "Volumes": {"/data": {}}, "ExposedPorts": {"6379/tcp": {}, "8080/tcp": {}},
            "StopSignal": "SIGTERM", "Labels": about,
            # Docker's and podman's; OCI has none, and Kubernetes its own (kubernetes.yaml)
            "Healthcheck": {"Test": ["CMD", "/usr/bin/crdt-redis", "healthcheck"],
                            "Interval": 10 * SECOND, "Timeout": 5 * SECOND,
                            "StartPeriod": 60 * SECOND, "Retries": 3}},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}"]},
        "history": [{"created": created, "created_by": "packaging/build_image.py"}]}))
    packed = blob("layer.v1.tar+gzip", gzip.compress(tar, 9, mtime=0))
    manifest = blob("manifest.v1+json", text({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config, "layers": [packed], "annotations": about}))
    name = f"crdt-redis:{version}"
    files = {**blobs, "oci-layout": text({"imageLayoutVersion": "1.0.0"}), "index.json": text({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [manifest | {"annotations": {
            "io.containerd.image.name": f"docker.io/library/{name}",
            "org.opencontainers.image.ref.name": version}}]}),
        "manifest.json": text([{"Config": path_of(config), "RepoTags": [name],
                                "Layers": [path_of(packed)]}])}
    to = Path(archive or f"dist/crdt-redis-{version}-image.tar")
    with tarfile.open(to, "w", format=tarfile.GNU_FORMAT) as out:
        for path in sorted(files):
            entry = tarfile.TarInfo(path)
            entry.mode, entry.mtime, entry.size = 0o644, when, len(files[path])
            out.addfile(entry, io.BytesIO(files[path]))
    print(f"{to}: {to.stat().st_size:,} bytes, {len(tar):,} unpacked, {manifest['digest']}")


def path_of(descriptor: dict) -> str:
    return "blobs/" + descriptor["digest"].replace(":", "/")


if __name__ == "__main__":
    main(*sys.argv[1:])
