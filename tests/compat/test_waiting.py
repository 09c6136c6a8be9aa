"""Commands that wait, by several clients, compared with redis-server: a fixed number of scenarios;
waiting.py says how to run more."""
import os

import pytest

from tests.compat import waiting
from tests.real.cluster import Server

SCENARIOS = int(os.environ.get("CRDT_COMPAT_SCENARIOS", "200"))
BLOCKS = 10


@pytest.fixture(scope="module")
def ours():
    server = Server(appendfsync="no").start()
    yield server
    server.dispose()


@pytest.mark.parametrize("block", range(BLOCKS))
def test_everybody_is_told_the_same(reference, ours, block):
    for seed in range(block, SCENARIOS, BLOCKS):
        waiting.check(reference, ours, seed)
