"""What takes minutes, or a machine for itself; run by hand: pytest
tests/real/slow_replication.py"""
import time

from tests.real.test_replication import health, run_twice, state, until


def test_a_refused_process_comes_back_when_the_other_has_gone(processes):
    """It tries again at the cap of its pauses, 30 s, and b lets it in when the other has been
    silent for a minute."""
    first, second, b = run_twice()
    first("SET", "mine", "1"), second("SET", "its", "2")
    time.sleep(75)
    assert (state(first, "b") == b"refused" and state(second, "b") == b"up"
            and b("GET", "mine") is None)
    second.stop()
    until(lambda: b("GET", "mine") == b"1" and first("GET", "its") == b"2", 150.0)
    assert health(first)[0] == 200


def test_thousands_who_gave_up_waiting_slow_nobody(cluster):
    """20,000 clients wait for a third peer that is not there, and close. Then the time from a write
    to its arrival."""
    a, b = servers = cluster(2)
    servers.sync()
    for _ in range(20):
        waiting = [a.connect() for _ in range(1000)]
        for c in waiting:
            c.send("SET", "k", "v")
            c.send("WAIT", 2, 0)
        for c in waiting:
            c.read()
            c.close()
    times = []
    with a.connect() as c, b.connect() as d:
        for i in range(200):
            begun = time.perf_counter()
            c("SET", "n", i)
            while d("GET", "n") != str(i).encode():
                pass
            times.append(time.perf_counter() - begun)
    times.sort()
    print(f"write to arrival: p50 {times[100] * 1e3:.1f} ms, p99 {times[198] * 1e3:.1f} ms, "
          f"{a.resident_bytes() >> 20} MB")
    assert times[100] < 0.1
