"""What is encoded is accepted: an effect that no replica would take is not made."""
import subprocess
import sys

UNSOUND = """
import math, sys
from crdtredis._core import Replica, probe_make
from crdtredis._engine import Executor
r = Replica("a", 1, seed=1)
e = Executor(r)
s = e.session()
assert e.execute(s, [b"SET", b"k", b"v"]) == b"+OK\\r\\n"
first = r.take_ops()
before = r.digest(), r.clock(), r.keys()
assert not probe_make(r, [("member", 0, b"z", ("set", 3, b"m", math.nan))])                 # aborts in a debug build
assert not probe_make(r, [("expire", 0, b"k", -5)])
assert (r.digest(), r.clock(), r.keys()) == before and r.take_ops() == b""
assert e.execute(s, [b"SET", b"l", b"v"]) == b"+OK\\r\\n"
r.check()
b = Replica("b", 1)
b.receive(first + r.take_ops())
assert b.digest() == r.digest()
print("refused", file=sys.stderr)
"""


def test_an_effect_that_no_replica_would_accept_is_not_made():
    done = subprocess.run([sys.executable, "-c", UNSOUND], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "refused\n") or \
        done.returncode == -6 and "an effect that no replica would accept" in done.stderr, done.stderr
