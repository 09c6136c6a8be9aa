"""Fixtures that every ring of tests shares: real servers, clusters of them, and a redis-server to
compare with.

A failing test shows the end of the output of each process it used. After a test, every process that
a fixture of wider scope does not own is ended and its files are removed; after the session there
must be none left.
"""
from __future__ import annotations

import sys

import pytest

from tests.real import cluster as real

sys.setswitchinterval(0.001)        # as a server does it: loops of tests share the GIL with them


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for process in real.running:
            report.sections.append((f"output of {process.name} (port {process.port})",
                                    process.log()))


@pytest.fixture(scope="session", autouse=True)
def _nothing_outlives_the_session():
    yield
    real.stop_all()


@pytest.fixture
def processes():
    """Ends, after the test, the processes that were started during it."""
    before = {id(p) for p in real.running}
    yield
    real.stop_all(but=before)


@pytest.fixture
def server(processes):
    """server(**settings): starts one crdt-redis process of its own for the test."""
    def start(name: str = "a", **settings) -> real.Server:
        return real.Server(name, **settings).start()
    return start


@pytest.fixture
def cluster(processes):
    """cluster(n, **settings): starts n crdt-redis processes in a full mesh for the test."""
    def start(n: int = 3, **settings) -> real.Cluster:
        return real.Cluster(n, **settings).start()
    return start


@pytest.fixture(scope="session")
def reference():
    """One redis-server for the session; whoever uses it begins with FLUSHALL."""
    process = real.Reference().start()
    yield process
    process.dispose()
