"""arq_jobs.py PORT PORT: 100 jobs put in at the first replica, with a worker at each. Prints how
often jobs ran at each; then what becomes of retries, delays, job ids and an abort at the first."""
import asyncio
import sys
from datetime import timedelta

from arq import Retry, create_pool
from arq.connections import RedisSettings
from arq.jobs import Job
from arq.worker import Worker

JOBS = 100
WAIT = 60                       # s that a job may take on a busy machine
ran = []                        # (port, job)


async def job(ctx, i):
    await asyncio.sleep(0.01)
    ran.append((ctx["port"], i))
    return i


async def flaky(ctx):
    if ctx["job_try"] < 3:
        raise Retry(defer=0.01)
    return ctx["job_try"]


async def slow(ctx):
    await asyncio.sleep(10 * WAIT)


async def start(port: int) -> tuple[Worker, asyncio.Task]:
    w = Worker(functions=[job, flaky, slow], redis_settings=RedisSettings(port=port),
               ctx={"port": port}, handle_signals=False, poll_delay=0.02, allow_abort_jobs=True)
    return w, asyncio.create_task(w.main())


async def main(*ports: int) -> None:
    pool = await create_pool(RedisSettings(port=ports[0]))
    workers = [await start(port) for port in ports]
    jobs = [await pool.enqueue_job("job", i) for i in range(JOBS)]
    assert [await j.result(timeout=WAIT) for j in jobs] == list(range(JOBS))
    tried, late = (await pool.enqueue_job("flaky"),
                   await pool.enqueue_job("job", 500, _defer_by=timedelta(milliseconds=100)))
    assert await tried.result(timeout=WAIT) == 3 and await late.result(timeout=WAIT) == 500
    assert await pool.enqueue_job("slow", _job_id="x")
    assert not await pool.enqueue_job("slow", _job_id="x")
    until = asyncio.get_running_loop().time() + WAIT
    while not await pool.exists("arq:in-progress:x"):
        assert asyncio.get_running_loop().time() < until
        await asyncio.sleep(0.01)
    assert await Job("x", pool).abort(timeout=WAIT)
    for w, task in workers:
        await w.close()
        task.cancel()
    print(*(sum(where == port for where, _ in ran) for port in ports))


asyncio.run(main(*map(int, sys.argv[1:])))
