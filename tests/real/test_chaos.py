"""chaos.py for a moment, in the topologies that were hardest: by hand, and for longer, `python -m
tests.real.chaos`."""
import pytest

from tests.real import chaos


@pytest.mark.parametrize("topology, tls", [("ab ba bc cb", False), ("ba ca", False),
                                           ("ab bc ca", True)],
                         ids=["line", "two that call one", "one-way ring with TLS"])
def test_what_was_acknowledged_survives_everything_at_once(processes, topology, tls):
    chaos.run(len(topology), 6.0, topology, tls)
