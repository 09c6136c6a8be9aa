"""Payloads exchanged: after a random sequence, what one server dumps the other restores, key by
key, in both directions."""
from __future__ import annotations

import pytest

from tests.commands import payloads
from tests.compat import harness
from tests.compat.words import DATABASES, KEYS

HOLDS = [{"hash-max-listpack-entries": "128", "zset-max-listpack-entries": "128",
          "set-max-intset-entries": "512", "list-max-listpack-size": "-2"},
         {"hash-max-listpack-entries": "1", "zset-max-listpack-entries": "1",
          "set-max-intset-entries": "1", "list-max-listpack-size": "2"}]


@pytest.mark.parametrize("block", range(4))
def test_exchange(reference, server, block):
    ours = server(appendfsync="no")
    pair = harness.Pair(reference, ours)
    compared = 0
    with reference.connect() as theirs, ours.connect() as mine:
        for seed in range(block, 160, 4):
            for name, value in HOLDS[block % 2].items():
                theirs("CONFIG", "SET", name, value)
            resp, steps = harness.make(seed)
            assert pair.run(resp, steps) is None
            for db in range(DATABASES):
                theirs("SELECT", db)
                mine("SELECT", db)
                for key in KEYS:
                    key = key.encode("latin-1")
                    for giver, taker in [(theirs, mine), (mine, theirs)]:
                        payload = giver("DUMP", key)
                        if payload is not None:
                            assert taker("RESTORE", "copy", 0, payload, "REPLACE") == b"OK"
                            assert payloads.read(taker, "copy") == payloads.read(giver, key), (
                                (seed, key, payload))
                            taker("DEL", "copy")
                            compared += 1
        for name, value in HOLDS[0].items():
            theirs("CONFIG", "SET", name, value)
    pair.close()
    assert compared > 100
