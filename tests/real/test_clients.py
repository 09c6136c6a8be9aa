"""Clients as people use them, unmodified: redis-py, redis-cli, redis-benchmark, a Node.js program,
and packages of Node.js that work by scripts and messages (those of Python: test_packages.py)."""
import asyncio
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import redis
import redis.asyncio

from tests.real.cluster import Server

NODE = Path(__file__).parent / "node"


@pytest.fixture(scope="module")
def s():
    server = Server().start()
    yield server
    server.dispose()


def tool(name: str) -> str:
    path = shutil.which(name)
    assert path, f"{name} is needed: install the Debian packages redis-tools, nodejs and npm"
    return path


def run(*argv, timeout: float = 120, **options) -> subprocess.CompletedProcess:
    return subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=timeout,
                          **options)


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py(s, protocol):
    r = redis.Redis(port=s.port, protocol=protocol, decode_responses=True)
    r.flushall()
    assert r.ping() and r.set("k", "v", ex=100) and r.get("k") == "v" and 90 < r.ttl("k") <= 100
    assert r.set("k", "w", nx=True) is None and r.set("k", "w", get=True) == "v"
    assert r.incr("n") == 1 and r.incrby("n", 10) == 11 and r.incrbyfloat("n", 0.5) == 11.5
    assert r.mset({"a": 1, "b": 2}) and r.mget("a", "b", "c") == ["1", "2", None]
    assert r.setbit("bits", 7, 1) == 0 and r.bitcount("bits") == 1 and r.getrange("k", 0, 0) == "w"
    with r.pipeline(transaction=True) as p:
        assert p.set("x", 1).incr("x").get("x").execute() == [True, 2, "2"]
    with r.pipeline() as p:
        p.watch("x")
        r.set("x", 9)
        p.multi()
        p.incr("x")
        with pytest.raises(redis.WatchError):
            p.execute()
    assert r.transaction(lambda p: (p.multi(), p.incr("x")), "x") == [10]
    for i in range(500):
        r.set(f"scan:{i}", i)
    assert len(set(r.scan_iter("scan:*", count=50))) == 500
    with pytest.raises(redis.ResponseError, match="not an integer"):
        r.incr("k")
    assert r.info()["redis_version"] and r.info("crdt")["replica_id"] == "a"
    assert (r.config_get("maxclients") and r.client_id() > 0 and r.client_setname("me")
            and r.client_getname() == "me")
    assert any(c["name"] == "me" for c in r.client_list())
    assert r.command_count() > 50 and r.command_getkeys("MSET", "a", "1", "b", "2") == ["a", "b"]
    assert r.object("encoding", "n") and r.dbsize() > 500 and r.type("k") == "string"
    assert (r.rename("k", "k2") and r.copy("k2", "k3") and r.expire("k3", 10, nx=True)
            and r.persist("k3"))
    assert (r.time()[0] > 0 and r.randomkey() and r.exists("a", "b", "zz") == 2
            and r.unlink("a", "b") == 2)
    r.close()


def test_redis_py_asyncio(s):
    async def main():
        r = redis.asyncio.Redis(port=s.port)
        await r.flushall()
        for _ in range(10):
            await asyncio.gather(*(r.incr("n") for _ in range(50)))
        assert await r.get("n") == b"500"
        await r.aclose()
    asyncio.run(main())


def test_redis_cli(s):
    s("FLUSHALL")
    cli = [tool("redis-cli"), "-p", s.port]
    assert run(*cli, "SET", "k", "hello").stdout == "OK\n"
    assert run(*cli, "GET", "k").stdout == "hello\n"
    assert run(*cli, "-3", "CONFIG", "GET", "maxclients").stdout.split()[-1].isdigit()
    assert run(*cli, "NOSUCH").stdout.startswith("ERR unknown command")
    assert run(*cli, "--no-raw", "INCR", "n").stdout == "(integer) 1\n"
    assert "redis_version" in run(*cli, "INFO").stdout
    out = run(*cli, input="SELECT 1\nSET a b\nGET a\nMULTI\nINCR c\nEXEC\n")
    assert out.stdout.split() == ["OK", "OK", "b", "OK", "QUEUED", "1"] and not out.stderr
    run(*cli, "MSET", *[f"key:{i}" if j == 0 else i for i in range(100) for j in range(2)])
    assert len(run(*cli, "--scan", "--pattern", "key:*").stdout.split()) == 100
    assert ("replies: 1000" in run(*cli, "--pipe",
                                   input="".join(f"SET p{i} {i}\r\n" for i in range(1000))).stdout)
    assert re.search(r"Biggest string", run(*cli, "--bigkeys").stdout)
    assert ("help" in run(*cli, "COMMAND", "DOCS", "GET").stdout.lower()
            or "get" in run(*cli, "COMMAND", "DOCS", "GET").stdout.lower())
    assert run(*cli, "-x", "SET", "stdin", input="body").stdout == "OK\n"


@pytest.mark.parametrize("pipeline", [1, 16])
@pytest.mark.parametrize("extra", [[], ["-3"]], ids=["resp2", "resp3"])
def test_redis_benchmark(s, pipeline, extra):
    """All string tests: no error, no warning, a result for each."""
    tests = ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET"]
    out = run(tool("redis-benchmark"), "-p", s.port, "-n", 20000, "-c", 50, "-P", pipeline, "-r",
              10000, *extra, "--csv",
              "-t", "ping_inline,ping_mbulk,set,get,incr,mset")
    assert out.returncode == 0, out.stdout + out.stderr
    assert not re.search("(?i)error|warning|could not", out.stdout + out.stderr), (
        out.stdout + out.stderr)
    assert len(out.stdout.strip().splitlines()) == 1 + len(tests)


@pytest.fixture(scope="session")
def node_program(tmp_path_factory):
    """The Node.js clients installed from the checked-in lock file, in a directory of its own."""
    there = tmp_path_factory.mktemp("node")
    for f in NODE.iterdir():
        if f.is_file():
            shutil.copy(f, there)
    out = run(tool("npm"), "ci", "--no-audit", "--no-fund", "--silent", cwd=there, timeout=240)
    assert out.returncode == 0, out.stdout + out.stderr
    return there / "check.js"


def test_node_redis(s, node_program):
    s("FLUSHALL")
    out = run(tool("node"), node_program, s.port)
    assert out.returncode == 0 and "node client: ok" in out.stdout, out.stdout + out.stderr


@pytest.mark.parametrize("package", ["ioredis", "bull", "rate-limiter-flexible", "socket.io"])
def test_node_packages(s, node_program, package):
    s("FLUSHALL")
    out = run(tool("node"), node_program.with_name("packages.js"), s.port, package)
    assert out.returncode == 0 and f"{package}: ok" in out.stdout, out.stdout + out.stderr
