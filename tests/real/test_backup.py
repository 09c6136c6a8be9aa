"""`crdt-redis backup` and `crdt-redis restore` with real servers, while clients write."""
import http.server
import os
import re
import subprocess
import tarfile
import threading
import time

import pytest

from tests.real.cluster import Server, executable, until


def run(*argv, code: int = 0, **environment) -> str:
    done = subprocess.run([*executable(), *map(str, argv)], capture_output=True, text=True,
                          timeout=120, env=os.environ | environment)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def fill(server, n: int = 200) -> None:
    with server.connect() as c:
        c.pipeline([("SET", f"key:{i}", "x" * 500) for i in range(n)]
                   + [("INCR", "count")] * n + [("RPUSH", "list", i) for i in range(n)])


@pytest.mark.parametrize("saves", [0, 1, 3])
def test_what_is_restored_is_what_was_there(server, tmp_path, saves):
    a = server("a", max_segment_size="64kb", replication_log_size="0")
    for _ in range(saves):
        fill(a)
        a("SAVE")
    fill(a)
    archive = tmp_path / "backup.tar"
    size = f"{archive}: (\\d+) bytes"
    told = re.fullmatch("(\\d+) of (\\d+) bytes\n" + size + "\n",
                        run("backup", "--from", a.address, "--to", archive))
    assert set(told.groups()) == {str(archive.stat().st_size)}
    digest = a("CRDT.DIGEST")
    a("SET", "later", 1)
    b = Server("a")
    out = run("restore", archive, b.data_dir)
    assert "replica a" in out
    b.start()
    assert b("CRDT.DIGEST") == digest
    assert [p.name for p in tmp_path.iterdir()] == ["backup.tar"]
    assert archive.stat().st_mode & 0o777 == 0o600


def test_taken_while_clients_write_and_checkpoints_come_and_go(server, tmp_path):
    a = server("a", max_segment_size="64kb", replication_log_size="0", compaction_threshold=2)
    fill(a)
    running = True

    def write():
        with a.connect() as c:
            while running:
                c.pipeline([("INCR", "n"), ("RPUSH", "l", "x"), ("SET", "big", "x" * 3000)])
                time.sleep(0.001)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for i in range(5):
            before = int(a("GET", "n") or 0)
            run("backup", "--from", a.address, "--to", tmp_path / f"{i}.tar")
            after = int(a("GET", "n"))
            b = Server("a")
            run("restore", tmp_path / f"{i}.tar", b.data_dir)
            b.start()
            assert before <= int(b("GET", "n")) <= after
            assert b("LLEN", "l") in (int(b("GET", "n")), int(b("GET", "n")) - 1)
            b.dispose()
    finally:
        running = False
        thread.join()


def test_a_restored_replica_takes_on_what_its_peers_have(server, tmp_path):
    a = server("a")
    b = server("b", peers=[a.address])
    a("SET", "before", 1)
    until(lambda: b("GET", "before") == b"1")
    run("backup", "--from", a.address, "--to", tmp_path / "backup.tar")
    for _ in range(10):
        a("INCR", "count")
    until(lambda: b("GET", "count") == b"10")
    a.kill()
    for path in a.data_dir.iterdir():
        path.unlink()
    run("restore", tmp_path / "backup.tar", a.data_dir)
    a.start()
    until(lambda: a("GET", "count") == b"10")
    a("INCR", "count")
    until(lambda: b("GET", "count") == b"11" and a("CRDT.DIGEST") == b("CRDT.DIGEST"))


def test_by_pipe_compressed(server, tmp_path):
    a = server("a", auth_token="secret")
    fill(a)
    command = executable()[0] if len(executable()) == 1 else " ".join(executable())
    subprocess.run(f"{command} backup --from {a.address} --to - | gzip > {tmp_path}/b.tar.gz",
                   shell=True, check=True, env=os.environ | {"CRDT_AUTH_TOKEN": "secret"})
    b = Server("a")
    run("restore", tmp_path / "b.tar.gz", b.data_dir)
    b.start()
    assert b("CRDT.DIGEST") == a("CRDT.DIGEST")
    assert "401" in run("backup", "--from", a.address, code=4)


def test_the_operators_token_goes_before_that_of_peers(server, tmp_path, monkeypatch):
    a = server("a", auth_token="of-peers", operator_token="of-operators")
    monkeypatch.setenv("CRDT_AUTH_TOKEN", "of-peers")
    assert "403" in run("backup", "--from", a.address, "--to", tmp_path / "b.tar", code=4)
    monkeypatch.setenv("CRDT_OPERATOR_TOKEN", "of-operators")
    run("backup", "--from", a.address, "--to", tmp_path / "b.tar")


def test_what_is_damaged_is_not_restored(server, tmp_path):
    a = server("a")
    fill(a)
    archive = tmp_path / "backup.tar"
    run("backup", "--from", a.address, "--to", archive)
    data = archive.read_bytes()
    to = tmp_path / "restored"
    for damaged in (b"", data[:600], data[:len(data) // 2], data[:-2048], b"x" * 10_000,
                    data[:1000] + b"\xff" * 100 + data[1100:512 * 20]):
        archive.write_bytes(damaged)
        assert "nothing was restored" in run("restore", archive, to, code=4)
        assert not to.exists() and {p.name for p in tmp_path.iterdir()} == {"backup.tar"}
    archive.write_bytes(data)
    to.mkdir()
    (to / "file").touch()
    assert "is not empty" in run("restore", archive, to, code=2)
    (to / "file").unlink()
    run("restore", archive, to)


def test_an_archive_of_a_stranger_writes_nowhere_else(tmp_path):
    (tmp_path / "evil").write_text("x")
    for name in ("../out", "/tmp/out", "identity.json/../../out", "dump.rdb", "identity.json"):
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            info = tarfile.TarInfo(name)
            if name == "identity.json":
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(info)
        out = run("restore", tmp_path / "a.tar", tmp_path / "to", code=4)
        assert "does not belong there" in out
        assert {p.name for p in tmp_path.iterdir()} == {"evil", "a.tar"}


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME,
                                  tarfile.GNUTYPE_LONGLINK])
def test_a_header_of_gigabytes_is_not_read(tmp_path, kind):
    info = tarfile.TarInfo("identity.json")
    info.type, info.size = kind, 3 << 30
    (tmp_path / "a.tar").write_bytes(info.tobuf() + bytes(100_000))
    out = run("restore", tmp_path / "a.tar", tmp_path / "to", code=4)
    assert "too large a header" in out and not (tmp_path / "to").exists()


def test_where_it_is_restored(server, tmp_path, monkeypatch):
    a = server("a")
    run("backup", "--from", a.address, "--to", tmp_path / "b.tar")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("one")
    assert "sound" in run("restore", tmp_path / "b.tar", tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "one" / "identity.json").is_file()
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    monkeypatch.chdir(tmp_path / "two")
    assert "sound" in run("restore", "../b.tar", ".")
    assert (tmp_path / "two" / "identity.json").is_file()


def test_a_server_of_another_kind_gives_no_backup(tmp_path):
    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

    with http.server.HTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        for to in ([], ["--to", "-"], ["--to", tmp_path / "b.tar"]):
            assert "this is no crdt-redis" in run(
                "backup", "--from", f"127.0.0.1:{other.server_port}", *to, code=4)
        other.shutdown()
    assert not list(tmp_path.iterdir())


def test_what_is_wrong_is_said_in_one_line(server, tmp_path):
    a = server("a")
    for argv, code, text in [
            (("backup", "--from", "127.0.0.1:1"), 4, "refused"),
            (("backup", "--from", "127.0.0.1:x"), 2, ""),
            (("backup", "--from", a.address, "--to", "/nosuch/x"), 4,
             ": /nosuch/x: No such file or directory\n"),
            (("backup", "--from", f"127.0.0.1:{a.port}"), 4, "is that its http_port?"),
            (("backup", "--from", a.address, "--keep", "1h"), 2, "goes with --follow"),
            (("export", "--from", "./nosuch", tmp_path / "x"), 2, "./nosuch: no such directory"),
            (("restore", "/nosuch", tmp_path / "to"), 4, "No such file"),
            (("restore", "/dev/null", "/proc/x/y"), 4, "No such file")]:
        out = run(*argv, code=code)
        assert text in out and out.count("\n") == 1, out


def test_who_takes_nothing_is_let_go_and_others_are_told_to_wait(server):
    import http.client

    a = server("a")
    with a.connect() as c:
        for i in range(60):
            c("SET", f"key:{i}", os.urandom(1 << 20))
    slow = []
    for _ in range(2):
        slow.append(http.client.HTTPConnection("127.0.0.1", a.http_port, timeout=20))
        slow[-1].request("GET", "/backup")
        assert slow[-1].getresponse().status == 200
    assert "503" in run("backup", "--from", a.address, code=4)
    for s in slow:
        s.close()
    again = [*executable(), "backup", "--from", a.address, "--to", "-"]
    until(lambda: subprocess.run(again, capture_output=True).returncode == 0)
