"""The sync thread as the engine's thread sees it: nothing waits, what was said holds from then on,
and nobody who left is kept."""
import asyncio
import threading
import time

import pytest

from crdtredis._core import Replica
from crdtredis._engine import Bridge
from crdtredis.replication import plan
from crdtredis.replication.members import MEMBERS_MOST
from crdtredis.replication.service import SYNCS, Service, SyncOutcome, local_replica_of
from tests.replication.network import Log

NOWHERE = "http://127.0.0.1:9"          # the port of discard: nobody listens


@pytest.fixture
def service():
    lock = threading.Lock()

    def call_soon(function):
        with lock:
            function()

    replica = Replica("a", 1)
    f = Service(local_replica_of(replica, replica.new_epoch), Bridge(), call_soon, Log(),
              plan.Settings(retry=0.05, retry_cap=0.05))
    f.start()
    yield f
    f.stop()
    assert not f._thread.is_alive()


def until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not come true in time"
        time.sleep(0.005)


def test_add_and_remove_hold_at_once(service):
    """As in one pipeline: none of these waits for the thread."""
    for _ in range(200):
        service.add(NOWHERE)
        with pytest.raises(ValueError):
            service.add(NOWHERE)
        service.remove(NOWHERE)
        with pytest.raises(KeyError):
            service.remove(NOWHERE)
        service.add(NOWHERE)
        assert [p.url for p in service.peers()] == [NOWHERE]
        service.remove(NOWHERE)
    assert service.peers() == []
    service.add(NOWHERE)
    until(lambda: len(service._tasks) == 1 and service.find(NOWHERE).counts.handshakes > 1)


def test_no_more_are_called_than_a_cluster_may_have(service):
    for i in range(MEMBERS_MOST):
        service.add(f"http://127.0.0.1:{i + 1}")
    with pytest.raises(ValueError, match=f"there are {MEMBERS_MOST} peers, and no more"):
        service.add(f"http://127.0.0.1:{MEMBERS_MOST + 1}")
    with pytest.raises(ValueError, match="already"):
        service.add("http://127.0.0.1:1")
    service.remove("http://127.0.0.1:1")
    service.add("http://127.0.0.1:1")


def test_who_waits_for_replicas_and_leaves_is_forgotten(service):
    """As thousands of clients do that close while they wait for more replicas than there are."""
    leave = [service.when_acknowledged(1, k, 2, lambda n: None) for k in range(5000)]
    until(lambda: len(service.registry.waiters) == 5000)
    for f in leave:
        f()
        f()
    until(lambda: len(service.registry.waiters) == 0)


@pytest.fixture
def stuck(service):
    """A peer that is never ready nor gone; one entry per CRDT.SYNC at work on it."""
    found = []

    async def never():
        found.append(True)
        await asyncio.Event().wait()

    service.add(NOWHERE)
    service.find(NOWHERE).ready = never
    return found


def test_who_waits_for_a_sync_and_leaves_is_forgotten(service, stuck):
    leave = [service.when_synced(lambda outcome: None) for _ in range(10 * SYNCS)]
    until(lambda: len(service._waiting) == 10 * SYNCS and len(stuck) == SYNCS)
    for f in leave:
        f()
        f()
    until(lambda: not service._waiting)


def test_a_sync_ends_with_its_time_however_many_others_are_at_work(service, stuck):
    outcomes = []
    for _ in range(SYNCS):
        service.when_synced(outcomes.append)
    until(lambda: len(stuck) == SYNCS)
    service.when_synced(outcomes.append, 0.05)
    until(lambda: outcomes)
    assert outcomes[0].unreachable == (NOWHERE,) and len(stuck) == SYNCS


def test_who_says_nothing_is_unreachable_long_before_a_sync_has_to_end(service, stuck, monkeypatch):
    """As a process after SIGSTOP. What others can be brought to is not kept waiting by it."""
    monkeypatch.setattr("crdtredis.replication.service.SYNC_PATIENCE", 0.05)
    outcomes = []
    service.when_synced(outcomes.append, 3600.0)
    until(lambda: outcomes)
    assert outcomes == [SyncOutcome((), (), (NOWHERE,))]


def test_an_address_that_has_come_to_stand_by_is_unreachable_only_where_its_replica_is(service):
    """Of two addresses that were both being tried when the sync began, as after a restart."""
    service.add(NOWHERE), service.add("http://127.0.0.1:1")
    first, second = service.find(NOWHERE), service.find("http://127.0.0.1:1")

    async def stands_by():
        second.replica, second._state = "b", "standby"
        return False

    async def ready():
        first.replica = replica
        return True

    async def at_once(everything=False):
        pass

    async def brought(target):
        pass

    # what comes of the address itself is not the matter here
    second._after = lambda fault: 3600.0
    second.ready, first.ready = stands_by, ready
    first.anti_entropy, first.bring_up = at_once, brought
    for replica, unreachable in (("b", ()), ("c", (second.url,))):
        second._state = "connecting"
        outcomes = []
        service.when_synced(outcomes.append, 10.0)
        until(lambda: outcomes)
        assert outcomes == [SyncOutcome((first.url,), (), unreachable)]


def test_its_own_address_is_no_peer_that_cannot_be_reached(service):
    """It was still being tried when the sync began."""
    service.add(NOWHERE)
    own = service.find(NOWHERE)

    async def is_own():
        own._state = "self"
        return False

    own._after = lambda fault: 3600.0
    own.ready = is_own
    outcomes = []
    service.when_synced(outcomes.append, 10.0)
    until(lambda: outcomes)
    assert outcomes == [SyncOutcome((), (), ())]


def test_a_sync_that_ends_too_early_names_whom_it_waited_for(service):
    """One has told all it has; another replies and does not come to an end: its name is the one to
    be said."""
    service.add(NOWHERE), service.add("http://127.0.0.1:1")
    done, slow = service.find(NOWHERE), service.find("http://127.0.0.1:1")

    async def ready():
        return True

    async def at_once(everything=False):
        pass

    async def never(everything=False):
        slow._contact = time.monotonic()
        await asyncio.Event().wait()

    done.ready = slow.ready = ready
    done.anti_entropy, slow.anti_entropy = at_once, never
    outcomes = []
    service.when_synced(outcomes.append, 0.2)
    until(lambda: outcomes)
    assert outcomes == [SyncOutcome((), (slow.url,), ())]


def test_a_sync_does_not_wait_for_a_peer_that_is_removed_meanwhile(service):
    service.add(NOWHERE)
    peer, outcomes = service.find(NOWHERE), []
    peer._after = lambda fault: 3600.0                  # it is not tried again
    until(lambda: peer.counts.failures == 0 and service._tasks)

    async def never():
        await asyncio.Event().wait()
    peer._converse = never
    peer.begin_anew()
    service.when_synced(outcomes.append)
    until(lambda: peer._outcome is not None)
    service.remove(NOWHERE)
    until(lambda: outcomes)
    assert outcomes[0].synced == () and not service._waiting


def test_a_verification_says_that_a_state_is_being_joined(service):
    """And the one in the background goes on."""
    service.add(NOWHERE)

    async def joining(peer):
        raise RuntimeError("a state is being joined")
    service.verifier.verify, found = joining, []
    service.when_verified([NOWHERE], found.append)
    until(lambda: found)
    assert found == [[(NOWHERE, "a state is being joined")]]
