"""HOTKEYS: what a session counts, what it tells, and what it refuses, in the words of Redis 8.6."""
from __future__ import annotations

import random

import pytest

from tests.commands.run import Client

METRICS = {"CPU": ["total-cpu-time-user-ms", "total-cpu-time-sys-ms", "by-cpu-time-us"],
           "NET": ["total-net-bytes", "by-net-bytes"]}
ALWAYS = ["tracking-active", "sample-ratio", "selected-slots", "all-commands-all-slots-us",
          "net-bytes-all-commands-all-slots", "collection-start-time-unix-ms",
          "collection-duration-ms"]


@pytest.fixture
def c():
    return Client(resp=3)


def told(c: Client) -> dict:
    """By name; of each metric the keys with their cost, the greatest first."""
    (found,) = c("HOTKEYS", "GET")
    found = {name.decode(): value for name, value in found.items()}
    for name in found:
        if name.startswith("by-"):
            flat = found[name]
            found[name] = dict(zip(flat[::2], flat[1::2]))
            assert list(found[name].values()) == sorted(found[name].values(), reverse=True)
    return found


def request(*argv) -> int:
    """Bytes of a command in RESP."""
    words = [str(a) for a in argv]
    return len(f"*{len(words)}\r\n") + sum(len(f"${len(w)}\r\n{w}\r\n") for w in words)


# ---- a session -----------------------------------------------------------------------------------

@pytest.mark.parametrize("metrics", [("CPU",), ("NET",), ("CPU", "NET"), ("NET", "CPU")])
def test_what_is_told(c, metrics):
    assert c("HOTKEYS", "START", "METRICS", len(metrics), *metrics) == b"OK"
    c("SET", "k", "v")
    c.now += 1500
    found = told(c)
    assert set(found) == {*ALWAYS, *(name for m in metrics for name in METRICS[m])}
    assert found["tracking-active"] == 1 and found["sample-ratio"] == 1
    assert found["selected-slots"] == [[0, 16383]]
    assert found["collection-start-time-unix-ms"] == c.now - 1500
    for name in found:
        if name.startswith("by-"):
            assert list(found[name]) == [b"k"] and found[name][b"k"] > 0


def test_resp2_tells_the_same_as_an_array():
    c = Client()
    c("HOTKEYS", "START", "METRICS", 1, "NET")
    c("GET", "k")
    ((name, active, *more),) = c("HOTKEYS", "GET")
    assert (name, active) == (b"tracking-active", 1)
    assert more[-2:] == [b"by-net-bytes", [b"k", request("GET", "k") + len("$-1\r\n")]]


def test_the_states_of_a_session(c):
    assert c("HOTKEYS", "GET") is None and c("HOTKEYS", "STOP") is None
    assert c("HOTKEYS", "RESET") == b"OK"
    assert c("HOTKEYS", "START", "METRICS", 1, "NET") == b"OK"
    assert (c.error("HOTKEYS", "START", "METRICS", 1, "CPU")
            == "ERR hotkey tracking session already in progress")
    assert (c.error("HOTKEYS", "RESET")
            == "ERR hotkey tracking session in progress, stop tracking first")
    c("SET", "k", "v")
    assert c("HOTKEYS", "STOP") == b"OK" and c("HOTKEYS", "STOP") is None
    c("SET", "late", "v")
    found = told(c)
    assert found["tracking-active"] == 0 and list(found["by-net-bytes"]) == [b"k"]
    assert c("HOTKEYS", "START", "METRICS", 1, "CPU") == b"OK"      # what was counted is gone
    assert told(c)["by-cpu-time-us"] == {} and c("HOTKEYS", "STOP") == b"OK"
    assert c("HOTKEYS", "RESET") == b"OK" and c("HOTKEYS", "GET") is None


def test_a_session_ends_when_its_time_is_up(c):
    c("HOTKEYS", "START", "METRICS", 1, "NET", "DURATION", 2)
    c("SET", "k", "v")
    c.now += 1999
    c("SET", "l", "v")
    c.now += 1
    c("SET", "late", "v")
    c.now += 5000
    found = told(c)
    assert found["tracking-active"] == 0 and found["collection-duration-ms"] == 2000
    assert set(found["by-net-bytes"]) == {b"k", b"l"} and c("HOTKEYS", "STOP") is None
    assert c("HOTKEYS", "START", "METRICS", 1, "NET") == b"OK"


# ---- what is counted -----------------------------------------------------------------------------

def test_bytes_are_those_of_request_and_reply(c):
    c("HOTKEYS", "START", "METRICS", 1, "NET")
    c("SET", "k", "x" * 100)
    c("PING")
    c("GET", "k")
    c("MGET", "k", "l")
    set_, get = request("SET", "k", "x" * 100) + 5, request("GET", "k") + 108
    both = (request("MGET", "k", "l") + len("*2\r\n_\r\n") + 108)
    found = told(c)
    assert found["by-net-bytes"] == {b"k": set_ + get + both // 2, b"l": both // 2}
    assert found["net-bytes-all-commands-all-slots"] == set_ + get + both
    assert found["total-net-bytes"] == set_ + get + both // 2 * 2


@pytest.mark.parametrize("argv,keys", [
    ("SORT l ALPHA STORE d", "l d"), ("LMPOP 2 l m LEFT", "l m"), ("ZUNIONSTORE d 2 a b", "d a b"),
    ("XREAD COUNT 1 STREAMS s t 0 0", "s t"), ("GEORADIUS g 0 0 1 km STORE x", "g x"),
    ("EVAL return(1) 2 a b c", "a b"), ("MSETEX 2 a 1 b 2", "a b"), ("OBJECT ENCODING k", "k"),
    ("LMPOP 9 l m LEFT", ""), ("PING", ""), ("EVAL return(1) 0", ""), ("XREAD STREAMS s", "")])
def test_keys_are_found_wherever_they_stand(c, argv, keys):
    c("HOTKEYS", "START", "METRICS", 2, "CPU", "NET")
    c.raw(*argv.split())
    found = told(c)
    assert set(found["by-net-bytes"]) == set(found["by-cpu-time-us"]) == set(keys.encode().split())


def test_commands_inside_others(c):
    """Those of EXEC count one by one, those of a script as the script, which has the keys that it
    was called with; one that waited counts when it is served."""
    c("HOTKEYS", "START", "METRICS", 1, "NET")
    for argv in (("MULTI",), ("SET", "k", "v"), ("INCR", "n"), ("EXEC",)):
        c(*argv)
    assert set(told(c)["by-net-bytes"]) == {b"k", b"n"}
    c("EVAL", "redis.call('SET', 'hidden', 1)", 1, "seen")
    assert set(told(c)["by-net-bytes"]) == {b"k", b"n", b"seen"}
    other = c.other()
    assert other.raw("BLPOP", "q", 0) == b""
    assert b"q" not in told(c)["by-net-bytes"]
    c("RPUSH", "q", "x" * 1000)
    assert told(c)["by-net-bytes"][b"q"] > 2000


@pytest.mark.parametrize("shown", [1, 3, 64])
def test_the_hottest_are_found_among_many(c, shown):
    """With ten counters for each key that is shown, beside a hundred times as many others; and no
    key is told to have cost more than it did."""
    rng = random.Random(shown)
    cost: dict[bytes, int] = {}
    c("HOTKEYS", "START", "METRICS", 2, "CPU", "NET", "COUNT", shown)
    for i in range(shown * 1500):
        key = f"hot{rng.randrange(shown)}" if i % 2 else f"cold{rng.randrange(shown * 1000)}"
        c.raw("SET", key, "v")
        cost[key.encode()] = cost.get(key.encode(), 0) + request("SET", key, "v") + 5
    found = told(c)
    assert set(found["by-net-bytes"]) == {b"hot%d" % i for i in range(shown)}
    assert all(cost[key] * 0.8 < n <= cost[key] for key, n in found["by-net-bytes"].items())
    assert len(found["by-cpu-time-us"]) <= shown
    assert found["net-bytes-all-commands-all-slots"] == sum(cost.values())


def test_a_sample_of_commands(c):
    c("HOTKEYS", "START", "METRICS", 1, "NET", "SAMPLE", 10)
    for i in range(5000):
        c.raw("SET", "k", "v")
    found = told(c)
    whole = 5000 * (request("SET", "k", "v") + 5)
    assert found["sample-ratio"] == 10 and found["net-bytes-all-commands-all-slots"] == whole
    assert 0.07 * whole < found["by-net-bytes"][b"k"] == found["total-net-bytes"] < 0.13 * whole


def test_long_and_odd_names(c):
    """Of a long one the beginning is kept; two that begin alike are two."""
    c("HOTKEYS", "START", "METRICS", 1, "NET", "COUNT", 64)
    for key in (b"", b"\x00\xff", b"x" * 100_000, b"x" * 100_000 + b"y", b"x" * 4096):
        c("SET", key, "v")
    (found,) = c("HOTKEYS", "GET")
    assert sorted(found[b"by-net-bytes"][::2]) == sorted([b"", b"\x00\xff", *[b"x" * 4096] * 3])


# ---- what is refused -----------------------------------------------------------------------------

@pytest.mark.parametrize("argv,text", [
    ("", "METRICS parameter is required"), ("METRICS", "METRICS parameter is required"),
    ("CPU 1 METRICS", "METRICS parameter is required"),
    *((f"METRICS {n} CPU", "METRICS count must be > 0 and <= 2") for n in ("0", "-1", "3", "x")),
    ("METRICS 2 CPU", "METRICS count does not match number of metric types provided"),
    ("METRICS 1", "METRICS count does not match number of metric types provided"),
    ("METRICS 2 CPU CPU", "METRICS CPU defined more than once!"),
    ("METRICS 2 net NET", "METRICS NET defined more than once!"),
    ("METRICS 1 GPU", "METRICS no valid metrics passed. Supported: CPU|NET"),
    ("METRICS 2 GPU NYET", "METRICS no valid metrics passed. Supported: CPU|NET"),
    ("METRICS 1 CPU NET", "syntax error"), ("METRICS 1 CPU COUNT", "syntax error"),
    *((f"METRICS 1 CPU COUNT {n}", "COUNT must be between 1 and 64") for n in ("0", "65", "x")),
    *((f"METRICS 1 CPU DURATION {n}", "DURATION must be between 1 and 1000000")
      for n in ("0", "1000001", "1.5")),
    *((f"METRICS 1 CPU SAMPLE {n}", "SAMPLE ratio must be positive")
      for n in ("0", "-1", str(2**31))),
    ("METRICS 1 CPU SLOTS 2 0 5", "SLOTS parameter cannot be used in non-cluster mode")])
def test_what_start_refuses(c, argv, text):
    assert c.error("HOTKEYS", "START", *argv.split()) == "ERR " + text
    assert c("HOTKEYS", "GET") is None


def test_what_else_is_refused(c):
    for sub in ("GET", "STOP", "RESET"):
        assert (c.error("HOTKEYS", sub, "x")
                == f"ERR wrong number of arguments for 'hotkeys|{sub.lower()}' command")
    assert c.error("HOTKEYS") == "ERR wrong number of arguments for 'hotkeys' command"
    assert c.error("HOTKEYS", "NO") == "ERR unknown subcommand 'NO'. Try HOTKEYS HELP."
    assert any(b"METRICS" in line for line in c("HOTKEYS", "HELP"))
    assert c("HOTKEYS", "START", "METRICS", 2, "GPU", "CPU") == b"OK"
