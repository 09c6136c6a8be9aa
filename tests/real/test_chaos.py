"""chaos.py for a moment, in the topologies that were hardest: by hand, and for longer, `python -m
tests.real.chaos`."""
import pytest

from tests.real import chaos


@pytest.mark.parametrize("topology", ["ab ba bc cb", "ba ca", "ab bc ca"],
                         ids=["line", "two that call one", "one-way ring"])
def test_what_was_acknowledged_survives_everything_at_once(processes, topology):
    chaos.run(len(topology), 6.0, topology)
