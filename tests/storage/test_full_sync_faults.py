"""A full sync on a disk that fails, or is gone, at any of its calls: at the receiver each call of
each kind, from the draft of the stage through the join to the checkpoint that makes it superfluous,
is the one that fails, that fails from then on, or before which the process dies, with its power or
without. What comes back is what was there before, or that and all of the giver's state, and never a
part of it; what was acknowledged is there; and then all of it goes well.
"""
import errno
import os
import random
import shutil
import subprocess
import sys
import textwrap

import pytest

from crdtredis._core import Replica, probe_get
from crdtredis.storage.recovery import recover
from crdtredis.storage.stage import remove_strays
from tests.storage.faults import CALLS, KILL, Disk

# For each line it reads, a process of its own that takes in the state of a; says how far it came.
RECEIVER = textwrap.dedent("""
    import os, sys
    from pathlib import Path
    from crdtredis._core import Replica, StateWriter, probe_make, record
    from crdtredis.clocks import Actor
    from crdtredis.storage.batch import declaration
    from crdtredis.storage.exchange import StateExchange
    from crdtredis.storage.stage import Contents, Draft, remove_strays, verify
    from tests.storage.node import Node
    from tests.storage.test_checkpoint import Loop

    def result(steps):
        while True:
            try:
                next(steps)
            except StopIteration as e:
                return e.value

    def receive(draft, giver, replica):
        start, records, tail = giver.clock_ids(), 0, []
        walk = StateWriter(giver)
        while piece := walk.next(2500):
            draft.put(piece)
            records += 1
            probe_make(giver, [("set", 0, b"tail", b"%d" % records)])
            tail.append(giver.take_ops())
        actors = tuple(Actor(*a) for a in giver.declared())
        draft.put(b"".join(record(b) for b in [declaration(actors), *tail]))
        contents = Contents(start, giver.clock_ids(), actors, records, 1 + len(tail))
        stage = draft.complete(contents)
        assert result(verify(stage, replica)) == contents
        return draft.publish(), contents

    def sync(folder, epoch, say):
        giver = Replica("a", 1, seed=1)
        giver.now = 1_000_000
        for i in range(100):
            probe_make(giver, [("set", 0, b"a%d" % i, b"v" * 30), ("set", 0, b"both", b"a")])
        giver.take_ops()
        node = Node(folder, epoch, "b", policy="always")
        loop = Loop(node)
        loop.joining, loop.add_work = False, loop.work.append
        remove_strays(folder, node.recovered.stages)
        node.log.start()
        failed, outcomes = [], []
        exchange = StateExchange(folder, node.replica, node.log, loop.checkpoints, loop,
                                 failed.append)
        say("begun")
        try:
            draft = Draft(folder, exchange.next_stage(), "b", "a", None)
            try:
                stage, contents = receive(draft, giver, node.replica)
            except BaseException:
                draft.discard()
                raise
        except OSError:
            say("given up")
        else:
            assert exchange.hold()
            say("joining")
            exchange.join(stage, contents, None, lambda *outcome: outcomes.append(outcome))
            while not outcomes and not failed:
                loop.turn()
            say("failed" if failed else "joined" if outcomes[0][0] is None else "given up")
            if failed:
                return
        for _ in range(2):                      # the second makes the stage superfluous
            loop.finish()
            loop.checkpoints.begin()
        loop.finish()
        if node.set(b"later", b"1"):
            say("written")
        loop.finish()
        loop.checkpoints.stop()
        node.close()

    for line in sys.stdin:
        epoch = int(line)
        if (pid := os.fork()) == 0:
            try:
                sync(Path(sys.argv[1]), epoch, lambda *what: print(*what, flush=True))
            except BaseException as e:
                print("raised", repr(e), flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
        print("over", flush=True)
""")
OWN = {b"own%d" % i: b"v" for i in range(5)}
THEIRS = {b"a%d" % i: b"v" * 30 for i in range(100)} | {b"both": b"a"}
KEYS = [*OWN, *THEIRS, b"tail", b"later"]


class Receiver:
    def __init__(self, folder) -> None:
        folder.mkdir()
        self.folder, self.disk, self.epoch = folder, Disk(folder), 1
        subprocess.run([sys.executable, "-c", textwrap.dedent("""
            import sys
            from pathlib import Path
            from tests.storage.node import Node
            node = Node(Path(sys.argv[1]), 1, "b", policy="always")
            for i in range(5):
                node.set(b"own%d" % i, b"v")
            node.close()
        """), folder], check=True)
        shutil.copytree(folder, folder.with_name("begin"))
        self.process = subprocess.Popen([sys.executable, "-c", RECEIVER, folder],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        env=os.environ | self.disk.environment, text=True)

    def reset(self) -> None:
        """As it was before the first full sync."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.folder.with_name("begin"), self.folder)
        self.disk.heal()
        self.disk.begin_again()
        self.epoch = 1

    def sync(self) -> list[str]:
        """A process more: what it said."""
        self.epoch += 1
        self.process.stdin.write(f"{self.epoch}\n")
        self.process.stdin.flush()
        said = []
        while (line := self.process.stdout.readline().strip()) != "over":
            assert line
            said.append(line)
        return said

    def content(self) -> dict:
        """What a start finds."""
        replica = Replica("b", 999)
        found = recover(self.folder, "b", replica)
        remove_strays(self.folder, found.stages)
        return {key: value for key in KEYS if (value := probe_get(replica, 0, key)) is not None}

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.disk.close()


@pytest.fixture
def receiver(tmp_path):
    r = Receiver(tmp_path / "data")
    yield r
    r.close()


def allowed(said: list[str], joined: dict) -> list[dict]:
    """What may be there after a process that said this."""
    later = {b"later": b"1"}
    if "written" in said:
        return [(joined if "joined" in said else OWN) | later]
    if "joined" in said:
        return [joined, joined | later]
    if "given up" in said:
        return [OWN, OWN | later]
    if "failed" in said:
        return [joined]
    return [OWN, joined] if "joining" in said else [OWN]


@pytest.mark.parametrize("call", CALLS)
def test_each_call_fails_once(receiver, call):
    whole = receiver.sync()
    assert whole == ["begun", "joining", "joined", "written"]
    joined = receiver.content()
    joined.pop(b"later")
    assert joined == OWN | THEIRS | {b"tail": joined[b"tail"]}
    rng, outcomes = random.Random(call), set()
    faults = [(KILL, 1), (errno.EIO, 1), (errno.ENOSPC, -1)]
    for error, times in faults if call in ("create", "write") else faults[:2]:
        at = hits = 0
        while at == 0 or hits:
            receiver.reset()
            rule = receiver.disk.fail(call, "", error, skip=at, times=times)
            said = receiver.sync()
            hits = receiver.disk.hits(rule)
            receiver.disk.heal()
            at += 1
            what = call, error, at, said
            outcomes.update(said)
            if error != KILL and said[0] != "begun":
                assert said[0].startswith("raised ") and len(said) == 1, what   # no start
                said = []
            assert not any(line.startswith("raised ") for line in said), what
            if error == KILL and rng.random() < 0.7:
                receiver.disk.power_loss(rng if rng.random() < 0.7 else None)
            found = receiver.content()
            assert found in (allowed(said, joined) if said else [OWN]), what
            assert receiver.content() == found, what
            if rng.random() < 0.3:
                assert receiver.sync() == whole, what
                assert receiver.content() == joined | {b"later": b"1"}, what
        assert at > 1, f"nobody calls {call}"
    assert "given up" in outcomes or call in ("pread", "ftruncate", "unlink")
    assert "failed" in outcomes or call != "pread"
