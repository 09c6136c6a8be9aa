"""Differential tests of scripts: the same random EVALs at redis-server and here."""
import os
import random

import pytest

from tests.compat.harness import Pair, as_bytes, describe
from tests.compat.scripts import script
from tests.real.cluster import Server

SEQUENCES = int(os.environ.get("CRDT_COMPAT_SCRIPTS", "60"))
BLOCKS = 6


@pytest.fixture(scope="module")
def pair(reference):
    ours = Server(appendfsync="no").start()
    pair = Pair(reference, ours)
    yield pair
    pair.close()
    ours.dispose()


@pytest.mark.parametrize("block", range(BLOCKS))
def test_replies_of_scripts_are_equal(pair, block):
    for seed in range(block, SEQUENCES, BLOCKS):
        rng = random.Random(seed)
        resp, steps = rng.choice([2, 3]), [(0, as_bytes(script(rng))) for _ in range(20)]
        if pair.run(resp, steps):
            small = pair.shrink(resp, steps)
            pytest.fail(describe(seed, resp, small, pair.run(resp, small)))
