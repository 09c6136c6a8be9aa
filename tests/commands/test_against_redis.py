"""Random string and bitmap commands: this replica in the test's own process beside a redis-server, every reply compared byte by byte.

tests/compat does the same through sockets and with all command groups; this is the quick round for whoever changes these handlers, and
it can hold the clock of the replica. Give a failing seed to `run` in a Python shell to see it again.
"""
import random
import time

import pytest

from tests.commands.local import Local
from tests.compat import differences, generators_bits, generators_strings
from tests.compat.harness import as_bytes
from tests.compat.words import KEYS

GENERATORS = [generators_strings.command, generators_bits.command]


def run(theirs, seed: int) -> int:
    """One sequence on both servers; the number of commands, or an assertion with the commands so far."""
    rng = random.Random(seed)
    resp = rng.choice([2, 3])
    ours = Local(resp=resp)
    theirs("HELLO", resp)
    theirs("FLUSHALL")
    steps = [as_bytes(rng.choice(GENERATORS)(rng)) for _ in range(rng.randint(5, 40))]
    steps += [(look, k.encode("latin-1")) for k in KEYS for look in (b"GET", b"PEXPIRETIME")]
    for i, argv in enumerate(steps):
        ours.replica.now = int(time.time() * 1000)
        theirs.send(*argv)
        expected, got = theirs.raw(), ours(*argv)
        assert differences.same(argv, expected, got), f"seed {seed}, RESP{resp}: {expected!r} from Redis, {got!r} here, after {steps[:i + 1]}"
    ours.replica.check()
    return len(steps)


@pytest.mark.parametrize("block", range(5))
def test_random_sequences(reference, block):
    with reference.connect() as theirs:
        for seed in range(block * 100, block * 100 + 100):
            run(theirs, seed)
