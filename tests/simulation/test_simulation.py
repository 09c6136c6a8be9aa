"""Seeded clusters in CI: two thousand fixed schedules, in blocks; world.py says how to run more,
or one again."""
import gc
import os

import pytest

from tests.simulation.world import check

SCHEDULES = int(os.environ.get("CRDT_SIMULATION_SCHEDULES", "2000"))
BLOCKS = 20


@pytest.mark.parametrize("block", range(BLOCKS))
def test_schedules(block):
    # what earlier tests left must not go while a schedule counts its memory
    gc.collect()
    for seed in range(block, SCHEDULES, BLOCKS):
        check(seed)
