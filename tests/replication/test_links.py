"""Links that are not as the mesh would like them: one direction only, one replica under two names, a process beside its own copy, a log
that has failed. What a peer is said to have, it must have; and what stands in the way must be seen and must pass."""
import asyncio
import time

import aiohttp
import pytest

from crdtredis.replication.peer import Peer
from crdtredis.replication.wire import CONTENT_TYPE, declarations, decode, encode, entries, ranges, wire
from tests.replication.network import Network, Node, converged, until
from tests.replication.test_peers import all_up, run


async def started(*nodes: Node) -> None:
    for n in nodes:
        await n.start(nodes)


async def stopped(*nodes: Node) -> None:
    for n in nodes:
        await n.stop()


# ---- one direction --------------------------------------------------------------------------------------------------


@run
async def test_a_new_actor_behind_a_one_way_link_is_fetched():
    """b reaches a, a reaches nobody. a's actor is unknown to b at their handshake and writes for the first time later."""
    a, b = Node("a"), Node("b")
    try:
        await started(a, b)
        b.connect(a)
        await all_up(b)
        states = set()
        a.set("k", "v")
        await until(lambda: states.add(b.peer(a).state) or b.get("k") == "v")
        await asyncio.sleep(0.3)
        assert states == {"up"} and b.peer(a).counts.failures == 0
    finally:
        await stopped(a, b)


@run
async def test_an_actor_met_only_through_another_is_declared():
    """c reaches b only. What it asks b for depends on an actor c has never heard of."""
    a, b, c = nodes = [Node(n) for n in "abc"]
    try:
        await started(*nodes)
        b.connect(a), c.connect(b)
        await all_up(b, c)
        a.set("k", "1")
        await until(lambda: b.get("k") == "1")
        b.set("k", "2")
        await until(lambda: c.get("k") == "2")
        await converged(nodes)
        assert c.peer(b).counts.failures == 0
    finally:
        await stopped(*nodes)


async def ask(node: Node, what: str, head, batch: bytes = b"", replica: str = "a", kind=wire.Answer):
    """One raw request to a node, in the name of a replica: (status, head of the answer, ops)."""
    async with aiohttp.ClientSession() as http, http.post(
            f"{node.url}/replication/{what}", data=encode(head, batch), headers={"Content-Type": CONTENT_TYPE, "X-Replica": replica}) as r:
        assert r.content_type == CONTENT_TYPE
        return r.status, *decode(kind if r.status == 200 else wire.Failure, await r.read())


@run
async def test_a_pull_of_ops_says_nothing_about_what_is_logged():
    """Its clock claims what the asker does not want to be sent: only a comparison is an acknowledgement."""
    async with Network(2, interval=60.0) as (a, b):
        await all_up(a, b)
        a.pause(b)
        b.set("k", "v")
        me, session = b.replica.actor, b.hub.sessions["a"].key
        claimed = entries({me: 1})
        await ask(b, "pull", wire.Pull(session=session, clock=claimed, limit=1000))
        await ask(b, "pull", wire.Pull(session=session, clock=claimed, limit=1000, actors=[me]))
        assert b.peer(a).known.get(me, 0) == 0 and b.hub.acknowledged({me: 1}) == 0
        await ask(b, "pull", wire.Pull(session=session, clock=claimed))
        assert b.hub.acknowledged({me: 1}) == 1


@run
async def test_a_pull_brings_ops_of_the_wanted_actors_only():
    async with Network(3) as (a, b, c):
        await all_up(a, b, c)
        for n in (a, b, c):
            n.set(n.name, "v")
        await converged([a, b, c])
        status, answer, batch = await ask(b, "pull", wire.Pull(session=b.hub.sessions["a"].key, limit=1 << 20, actors=[c.replica.actor]))
        assert status == 200 and not answer.more
        assert [actor for actor, _, _ in ranges(batch)] == [c.replica.actor]
        assert {x.replica for x in declarations(batch)} == {"a", "b", "c"}     # what it may depend on is declared


@run
async def test_what_a_process_has_is_not_put_down_to_another_of_the_same_replica():
    """b calls one process of a, and another one calls b."""
    async with Network(2) as (a, b):
        await all_up(a, b)
        hello, declared = a.hub.hello()
        hello.process += 1
        status, answer, _ = await ask(b, "handshake", hello, declared, kind=wire.Hello)
        b.set("k", "v")
        await ask(b, "pull", wire.Pull(session=answer.session, clock=entries({b.replica.actor: 1000})))
        assert b.peer(a).known.get(b.replica.actor, 0) < 1000
