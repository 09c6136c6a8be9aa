"""Differential tests in CI: a fixed thousand sequences, in blocks; harness.py says how to run more,
or one again."""
import os

import pytest

from tests.compat.harness import Pair
from tests.real.cluster import Server

SEQUENCES = int(os.environ.get("CRDT_COMPAT_SEQUENCES", "1000"))
BLOCKS = 20


@pytest.fixture(scope="module")
def pair(reference):
    ours = Server(appendfsync="no").start()
    pair = Pair(reference, ours)
    yield pair
    pair.close()
    ours.dispose()


@pytest.mark.parametrize("block", range(BLOCKS))
def test_replies_are_equal(pair, block):
    for seed in range(block, SEQUENCES, BLOCKS):
        pair.check(seed)
