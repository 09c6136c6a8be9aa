"""Seeded clusters in CI: a fixed few thousand schedules, in blocks; world.py says how to run more, or one again."""
import os

import pytest

from tests.simulation.world import check

SCHEDULES = int(os.environ.get("CRDT_SIMULATION_SCHEDULES", "4000"))
BLOCKS = 20


@pytest.mark.parametrize("block", range(BLOCKS))
def test_schedules(block):
    for seed in range(block, SCHEDULES, BLOCKS):
        check(seed)


def test_ops_of_a_dead_process_that_come_late_count_only_their_part():
    """It lost power after it had sent them; a delete took its tally back, and nobody may forget that while they can still come."""
    check(2636)
