"""What must hold in every test of this folder, whatever it is about. `watch` has a node check it at
each step:

- *A cursor never moves past what was not sent.* After a reader was handed a chunk, its clock is
  what it was and what the chunk holds, no more; and the chunk leaves no gap above what it was. What
  is skipped here no later reading would find.
- *Nothing is acknowledged before it is logged.* Every clock that leaves the node, with a Hello or
  an Reply, is covered by its log as of then.
- *A peer is taken to have only what its log has* (`overclaims`; holds while no log loses a tail).
"""
from __future__ import annotations

from crdtredis import clocks
from crdtredis._core import batch_ranges
from crdtredis.replication.oplog import OpLog
from crdtredis.replication.wire import to_clock


def watch(node) -> None:
    """What is broken is found in node.broken, and ends the request or the read that broke it."""
    node.broken = []
    watch_readers(node.tail.log, node.broken)
    for name in ("pull", "handshake"):
        setattr(node.sessions, name, checked(getattr(node.sessions, name), node))
    reply = node.sessions.reply
    node.sessions.reply = lambda *args, **more: logged(reply(*args, **more), node)


def watch_readers(log: OpLog, broken: list[str]) -> None:
    for name in ("take", "older"):
        setattr(log, name, moved(getattr(log, name), broken))


def must(holds: bool, broken: list[str], text: str) -> None:
    if not holds:
        broken.append(text)
        raise AssertionError(text)


def moved(read, broken):
    def reading(cursor, limit):
        before = dict(cursor.clock)
        chunk = read(cursor, limit)
        reached = dict(before)
        for actor, first, last in batch_ranges(chunk.batch):
            must(first <= reached.get(actor, 0) + 1, broken,
                 f"ops {reached.get(actor, 0) + 1} to {first - 1} of {actor:x} left out")
            must(cursor.wants(actor), broken, f"ops of {actor:x}, which is not wanted")
            reached[actor] = max(reached.get(actor, 0), last)
        must(cursor.clock == reached, broken,
             f"the cursor went from {before} to {cursor.clock} with {batch_ranges(chunk.batch)}")
        return chunk

    return reading


def checked(reply, node):
    async def replying(*args):
        out = await reply(*args)
        logged(out[0], node)
        return out

    return replying


def logged(head, node):
    claimed = to_clock(head.clock)
    must(clocks.observed(node.engine.logged, claimed), node.broken,
         f"{node.name} claims {claimed}, and has logged {node.engine.logged}")
    return head


def overclaims(nodes) -> None:
    for n in nodes:
        for p in n.registry.peers:
            other = next(m for m in nodes if m.url == p.url)
            assert clocks.observed(other.engine.logged, p.acked), (
                f"{n.name} takes {other.name} to have {p.acked}: it has {other.engine.logged}")
