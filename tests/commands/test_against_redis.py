"""Random string and bitmap commands: this replica in the test's own process beside a redis-server,
every reply compared byte by byte.

tests/compat does the same through sockets and with all command groups; this is the quick round for
whoever changes these handlers, and it can hold the clock of the replica. Give a failing seed to
`run` in a Python shell to see it again.
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
    """One sequence on both servers; the number of commands, or an assertion with the commands so
    far."""
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
        assert differences.same(argv, expected, got), (
            f"seed {seed}, RESP{resp}: {expected!r} from Redis, {got!r} here, after "
            f"{steps[:i + 1]}")
    ours.replica.check()
    return len(steps)


@pytest.mark.parametrize("block", range(5))
def test_random_sequences(reference, block):
    with reference.connect() as theirs:
        for seed in range(block * 100, block * 100 + 100):
            run(theirs, seed)


STEPS = ["0.1", "-0.3", "0.7", "123456789.123456789", "1e15", "-1e15", "1e19", "-1e19", "1e-17",
         "5e-18", "3.7e-4940", "1e300",
         "-1e300", "9223372036854775807", "-9223372036854775808", "7", "-7"]


@pytest.mark.parametrize("block", range(4))
def test_long_sequences_of_increments_show_the_same_digits(reference, block):
    """Redis rounds at every step; we add up exactly, and show what it would."""
    rng = random.Random(block)
    ours = Local()
    with reference.connect() as theirs:
        theirs("HELLO", 2)
        theirs("FLUSHALL")
        done = []
        for _ in range(1500):
            key = rng.choice(["k", "l"])
            # of scores 7.0 writes other digits: see differences.NOISE
            argv = rng.choice([("INCRBYFLOAT", key, rng.choice(STEPS)),
                               ("HINCRBYFLOAT", "h", key, rng.choice(STEPS[:9])),
                               ("ZINCRBY", "z", rng.choice(STEPS), key),
                               ("INCRBYFLOAT", key, rng.choice(STEPS[:3])),
                               ("HINCRBY", "h", key, rng.choice(STEPS[-4:])),
                               ("INCRBY", key, rng.choice(STEPS[-4:]))])
            if rng.random() < 0.01:
                argv = rng.choice([("SET", key, rng.choice(STEPS)), ("DEL", key),
                                   ("HSET", "h", key, rng.choice(STEPS))])
            done.append(argv)
            argv = as_bytes(argv)
            theirs.send(*argv)
            expected, got = theirs.raw(), ours(*argv)
            assert differences.same(argv, expected, got), (
                f"{expected!r} from Redis, {got!r} here, after {done[-30:]}")
    ours.replica.check()
