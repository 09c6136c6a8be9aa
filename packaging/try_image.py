"""Tries the image (build_image.py) as a container would run it, where no daemon can: the layer
unpacked, in namespaces of its own, with a read-only root, as the image's user, as process 1, with
no capability, and with the image's environment. Three replicas, set up as compose.yaml does. Run as
root. Prints what it checked; ends at the first thing that is wrong.

    try_image.py [ARCHIVE]
"""
import contextlib
import gzip
import hashlib
import io
import json
import os
import random
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

PATIENCE = 30           # s
# The mount points are made before, as runtimes do. Process 1 is the server: each shell becomes the
# next.
CONTAINER = """
set -e
mount --bind "$ROOT" "$ROOT"
mount -t proc proc "$ROOT/proc"
mount -t tmpfs -o mode=755 tmpfs "$ROOT/dev"
for device in null:3 full:7 zero:5 random:8 urandom:9; do
    mknod -m 666 "$ROOT/dev/${device%:*}" c 1 "${device#*:}"
done
mkdir -m 1777 "$ROOT/dev/shm"
mount -t tmpfs -o noexec,nosuid,nodev tmpfs "$ROOT/dev/shm"
mount --bind "$DATA" "$ROOT/data"
mount -o remount,bind,ro "$ROOT"
exec setpriv --no-new-privs --bounding-set=-all,+sys_chroot,+setuid,+setgid \\
    "$CHROOT" --userspec="$OWNER" --groups= "$ROOT" "$@"
"""


def ok(what: str) -> None:
    print(f"ok: {what}", flush=True)


def free_port() -> int:
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port


class Image:
    """Its files under a directory, and its configuration. Every digest is looked at."""

    def __init__(self, archive: Path, root: Path) -> None:
        self.root = root
        with tarfile.open(archive) as tar:
            files = {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}
        for name, data in files.items():
            if name.startswith("blobs/"):
                assert name == f"blobs/sha256/{hashlib.sha256(data).hexdigest()}", name

        def blob(descriptor: dict) -> bytes:
            data = files["blobs/" + descriptor["digest"].replace(":", "/")]
            assert len(data) == descriptor["size"]
            return data

        manifest = json.loads(blob(json.loads(files["index.json"])["manifests"][0]))
        config = json.loads(blob(manifest["config"]))
        layers = [gzip.decompress(blob(layer)) for layer in manifest["layers"]]
        assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(x).hexdigest()}"
                                                for x in layers]
        docker, = json.loads(files["manifest.json"])
        assert docker["Config"] == "blobs/" + manifest["config"]["digest"].replace(":", "/")
        assert len(docker["Layers"]) == len(layers) and all(x in files for x in docker["Layers"])
        self.config = config["config"]
        for layer in layers:
            with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
                tar.extractall(root, numeric_owner=True)
        for name in ("proc", "dev"):
            (root / name).mkdir()
        (root / "etc/hosts").write_text("127.0.0.1 localhost\n")    # runtimes bring it along

    def state(self) -> str:
        """Of all files."""
        found = hashlib.sha256()
        for path in sorted(self.root.rglob("*")):
            s = path.lstat()
            found.update(f"{path} {s.st_mode} {s.st_uid} {s.st_size} {s.st_mtime_ns}\n".encode())
        return found.hexdigest()

    def start(self, data: Path, *arguments: str, **env: str) -> subprocess.Popen:
        own = dict(x.split("=", 1) for x in self.config["Env"])
        tools = os.environ["PATH"] + ":/usr/sbin:/sbin"
        which = subprocess.run(["sh", "-c", "command -v chroot"], env={"PATH": tools}, text=True,
                               capture_output=True, check=True).stdout.strip()
        return subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--propagation", "private",
             "sh", "-c", CONTAINER, "sh", *arguments], stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, env={
                **own, **env, "PATH": tools, "ROOT": str(self.root), "DATA": str(data),
                "OWNER": self.config["User"], "CHROOT": which})

    def run(self, data: Path, *arguments: str, **env: str) -> tuple[int, str]:
        process = self.start(data, *arguments, **env)
        said, _ = process.communicate(timeout=PATIENCE)
        return process.returncode, said


def inside(process: subprocess.Popen) -> int:
    """The process that is number 1 within."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


def ask(port: int, *lines: str) -> list[str]:
    """Commands, in the inline form -> the last line of each reply."""
    replies = []
    with socket.create_connection(("127.0.0.1", port), 5) as s, s.makefile("rw", newline="") as f:
        for line in lines:
            f.write(line + "\r\n")
            f.flush()
            reply = f.readline().strip()
            replies.append(f.readline().strip() if reply[:1] == "$" else reply)
    return replies


def until(what: str, condition) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError):
            if condition():
                return
        assert time.monotonic() < end, f"not in time: {what}"
        time.sleep(0.05)


def main(archive: str = "") -> None:
    path = Path(archive) if archive else next(Path(__file__).parent.parent.glob(
        "dist/crdt-redis-*-image.tar"))
    running: list[subprocess.Popen] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            check(path, Path(folder), running)
        finally:
            for process in running:
                with contextlib.suppress(OSError, IndexError):
                    os.kill(inside(process), 9)
                process.wait()
                if sys.exc_info()[0]:
                    print(process.stdout.read(), file=sys.stderr)
    print("all is well")


def check(path: Path, folder: Path, running: list[subprocess.Popen]) -> None:
    folder.chmod(0o755)
    (folder / "root").mkdir(mode=0o755)
    image = Image(path, folder / "root")
    user = int(image.config["User"].split(":")[0])
    program, health = image.config["Entrypoint"][0], image.config["Healthcheck"]["Test"][1:]
    before = image.state()
    ok(f"{path.name}: {path.stat().st_size:,} bytes, every digest is right")

    data = [folder / f"data{i}" for i in range(3)]
    for directory in data:
        directory.mkdir(mode=0o700)
        os.chown(directory, user, user)
    code, said = image.run(data[0], program, "version")
    assert code == 0 and said.startswith("crdt-redis "), said
    code, said = image.run(data[0], program)
    assert code == 2 and "requirepass" in said and "auth_token" in said, said
    assert not list(data[0].iterdir())
    ok("without a password and a token it does not start, and names both")

    redis, http = [free_port() for _ in data], [free_port() for _ in data]
    secrets = {"CRDT_REQUIREPASS": "a-password", "CRDT_AUTH_TOKEN": "a-token"}
    envs = [secrets | {"CRDT_ALLOW_PLAIN_PEERS": "yes", "CRDT_REPLICA_ID": f"replica-{i + 1}",
                       "CRDT_PEERS": ",".join(f"localhost:{port}" for port in http),
                       "CRDT_REDIS_PORT": str(redis[i]), "CRDT_HTTP_PORT": str(http[i])}
            for i in range(3)]
    for i in range(3):
        running.append(image.start(data[i], program, **envs[i]))
    for i in range(3):
        until("the health check", lambda i=i: image.run(data[i], *health, **envs[i])[0] == 0)
        status = Path(f"/proc/{inside(running[i])}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert fields["Uid"].split() == [str(user)] * 4 and fields["NoNewPrivs"] == "1", status
        assert int(fields["CapEff"], 16) == 0 and fields["NSpid"].split()[-1] == "1", status
    ok("three replicas, each process 1 of its own, as the image's user with no capability; the "
       "image's health check says 0")
    for i in range(3):
        assert ask(redis[i], "AUTH a-password", f"INCRBY visits {i + 1}")[0] == "+OK"
    for i in range(3):
        until("6", lambda i=i: ask(redis[i], "AUTH a-password", "GET visits")[1] == "6")
    ok("what each has counted is counted everywhere")

    os.kill(inside(running[0]), 15)
    assert running[0].wait(PATIENCE) == 0, running[0].stdout.read()
    assert image.run(data[0], *health, **envs[0])[0] == 1
    ok("SIGTERM: exit code 0; then the health check says 1")
    running[0] = image.start(data[0], program, **envs[0])
    until("the start", lambda: ask(redis[0], "AUTH a-password", "GET visits")[1] == "6")
    for process in running:
        os.kill(inside(process), 15)
        assert process.wait(PATIENCE) == 0
    assert image.state() == before, "something in the image has changed"
    ok("its data is there after a restart; nothing else was written")
    next(image.root.rglob("libz.so*")).unlink()
    code, said = image.run(data[0], program, "version")
    assert code == 1 and "is not whole: /usr/lib/crdt-redis/" in said, said
    ok("an image that is not whole says so")


if __name__ == "__main__":
    main(*sys.argv[1:])
