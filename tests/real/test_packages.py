"""Python packages that work by scripts, locks and sorted sets, unmodified, with what their users do
with them: redis-py's Lock, Dramatiq, Huey, arq. Those of Node.js: test_clients.py."""
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import dramatiq
import huey
import pytest
import redis
from dramatiq import rate_limits
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import GroupCallbacks
from dramatiq.rate_limits.backends import RedisBackend as Limits
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from tests.real.cluster import Cluster, Server, until

WAIT = 60                       # s that a job may take on a busy machine


@pytest.fixture(scope="module")
def server():
    s = Server().start()
    yield s
    s.dispose()


@pytest.fixture
def s(server):
    server("FLUSHALL")
    return server


def test_locks_of_redis_py(s):
    r = redis.Redis(port=s.port)
    lock, other = r.lock("lock", timeout=100), r.lock("lock", timeout=100)
    assert lock.acquire() and lock.locked() and lock.owned()
    assert not other.acquire(blocking=False) and not other.owned()
    assert lock.extend(100) and 190_000 < r.pttl("lock") <= 200_000
    assert lock.reacquire() and 90_000 < r.pttl("lock") <= 100_000
    with pytest.raises(redis.exceptions.LockError):
        other.release()
    lock.release()
    with pytest.raises(redis.exceptions.LockError):
        lock.release()
    done = []

    def work():
        mine = redis.Redis(port=s.port)
        for _ in range(20):
            with mine.lock("counted", timeout=100, sleep=0.001):
                mine.set("n", int(mine.get("n") or 0) + 1)
        done.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(done) == 4 and r.get("n") == b"80"


@pytest.fixture
def broker(s):
    b = RedisBroker(port=s.port)
    b.add_middleware(Results(backend=RedisBackend(port=s.port)))
    b.add_middleware(GroupCallbacks(Limits(port=s.port)))
    before = dramatiq.broker.global_broker
    dramatiq.set_broker(b)
    logging.getLogger("dramatiq").setLevel(logging.CRITICAL)     # of jobs that are to fail
    yield b
    dramatiq.set_broker(before)
    b.close()


def test_dramatiq(broker):
    tries, ended = [], threading.Event()

    @dramatiq.actor(store_results=True)
    def add(a, b):
        return a + b

    @dramatiq.actor(store_results=True, min_backoff=10, max_backoff=20)
    def flaky():
        tries.append(1)
        if len(tries) < 3:
            raise ValueError("again")
        return "at last"

    @dramatiq.actor
    def end():
        ended.set()

    def result(job):
        return job.get_result(block=True, timeout=WAIT * 1000)

    worker = dramatiq.Worker(broker, worker_timeout=50)
    worker.start()
    try:
        assert result(add.send(1, 2)) == 3
        group = dramatiq.group([add.message(i, i) for i in range(50)])
        group.add_completion_callback(end.message())
        found = group.run().get_results(block=True, timeout=WAIT * 1000)
        assert list(found) == [2 * i for i in range(50)] and ended.wait(WAIT)
        assert result(dramatiq.pipeline([add.message(1, 2), add.message(3)]).run()) == 6
        assert result(flaky.send()) == "at last" and len(tries) == 3
        assert result(add.send_with_options(args=(5, 5), delay=100)) == 10
        broker.join("default", timeout=WAIT * 1000)
    finally:
        worker.stop()


def test_rate_limits_of_dramatiq(s):
    backend = Limits(port=s.port)

    def may(limiter):
        with limiter.acquire(raise_on_failure=False) as got:
            return got

    concurrent = rate_limits.ConcurrentRateLimiter(backend, "concurrent", limit=1)
    with concurrent.acquire():
        assert not may(concurrent)
    assert may(concurrent)
    bucket = rate_limits.BucketRateLimiter(backend, "bucket", limit=3, bucket=86_400_000)
    assert sum(may(bucket) for _ in range(10)) in (3, 6)        # 6: midnight has passed
    window = rate_limits.WindowRateLimiter(backend, "window", limit=3, window=1000)
    assert [may(window) for _ in range(5)] == [True, True, True, False, False]
    barrier = rate_limits.Barrier(backend, "barrier")
    assert barrier.create(2) and not barrier.wait(block=False) and barrier.wait(block=False)


@pytest.mark.parametrize("kind", [huey.RedisHuey, huey.PriorityRedisHuey, huey.RedisExpireHuey])
def test_huey(s, kind):
    h = kind("work", port=s.port)
    tries, ran = [], []

    @h.task()
    def add(a, b):
        return a + b

    @h.task(retries=3)
    def flaky():
        tries.append(1)
        if len(tries) < 3:
            raise ValueError("again")
        return "at last"

    @h.task()
    @h.lock_task("alone")
    def alone(name):
        ran.append(name)
        return name

    def result(job):
        return job.get(blocking=True, timeout=WAIT)

    logging.getLogger("huey").setLevel(logging.CRITICAL)         # of jobs that are to fail
    consumer = h.create_consumer(workers=2, initial_delay=0.02, max_delay=0.05)
    handlers = {n: signal.getsignal(n) for n in signal.valid_signals()}
    consumer.start()
    for number, handler in handlers.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)
    try:
        assert result(add(1, 2)) == 3
        assert [result(job) for job in [add(i, i) for i in range(50)]] == [2 * i for i in range(50)]
        flaky()
        until(lambda: len(tries) == 3, WAIT)
        assert result(add.schedule((5, 5), delay=1)) == 10
        assert result(h.enqueue(add.s(1, 2).then(add, 3))) == [3, 6]
        assert result(alone("a")) == "a" and result(alone("b")) == "b" and ran == ["a", "b"]
        later = add.schedule((1, 1), delay=10_000)
        until(lambda: len(h.scheduled()) == 1, WAIT)
        later.revoke()
        assert later.is_revoked()
        with h.lock_task("held"), pytest.raises(huey.exceptions.TaskLockedException):
            with h.lock_task("held"):
                pass
    finally:
        consumer.stop(graceful=True)


PROGRAMS = Path(__file__).parent / "python"


@pytest.fixture(scope="module")
def older_packages(tmp_path_factory):
    """Of the checked-in list, in a directory of their own."""
    there = tmp_path_factory.mktemp("packages")
    out = subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--target", str(there),
                          "--no-deps", "-r", str(PROGRAMS / "requirements.txt")],
                         capture_output=True, text=True, timeout=240)
    assert out.returncode == 0, out.stdout + out.stderr
    return there


def test_jobs_of_arq_that_stay_at_home_run_once(older_packages):
    """With a worker at each of two replicas. Without `local_keys` some run twice."""
    replicas = Cluster(2, local_keys="arq:*").start()
    try:
        out = subprocess.run([sys.executable, str(PROGRAMS / "arq_jobs.py"),
                              *(str(s.port) for s in replicas)], capture_output=True, text=True,
                             env=os.environ | {"PYTHONPATH": str(older_packages)}, timeout=240)
        assert (out.returncode, out.stdout) == (0, "101 0\n"), out.stdout + out.stderr
        assert replicas[1]("KEYS", "*") == []
    finally:
        for s in replicas:
            s.dispose()
