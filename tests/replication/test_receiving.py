"""The receiver's side of a full sync, where it is given up in the middle: files are left to nobody;
and when what is sent is packed, and what does not unpack.

What it does with whole processes is in tests/real/test_full_sync.py.
"""
import asyncio
import random
import threading
import zlib
from types import SimpleNamespace

import pytest

from crdtredis.replication.giving import PACK_MOST, Packing, unpacked
from crdtredis.replication.receiving import Receiving
from crdtredis.replication.wire import Refusal, proto
from crdtredis.storage.stage import Draft


@pytest.mark.parametrize("at", ["__init__", "put", "complete", "publish"])
def test_who_gives_up_waits_for_what_is_under_way_on_disk(tmp_path, monkeypatch, at):
    """A thread that writes, names or closes the stage is let end before the stage is discarded: two
    that close one file would close another's."""
    asyncio.run(given_up(tmp_path, monkeypatch, at))


async def given_up(tmp_path, monkeypatch, at):
    entered, discarded = threading.Event(), threading.Event()
    overlapped, asked_twice = [], []
    real, discard = getattr(Draft, at), Draft.discard

    def slow(draft, *argv):
        if at == "put" and draft._fd >= 0 and draft.size == 0:
            return real(draft, *argv)                           # the header
        entered.set()
        overlapped.append(discarded.wait(0.3))
        return real(draft, *argv)

    def discarding(draft):
        discarded.set()
        discard(draft)

    monkeypatch.setattr(Draft, at, slow)
    monkeypatch.setattr(Draft, "discard", discarding)

    async def call(function):
        return function()

    exchange = SimpleNamespace(folder=tmp_path, next_stage=lambda: 1, hold=lambda: True,
                               let_go_soon=lambda: asked_twice.append(1))
    receiver = SimpleNamespace(
        _tail=SimpleNamespace(gate={1: 1}), _runtime=None, _call=call, _exchange=exchange,
        giver=SimpleNamespace(close=lambda: True, reopen=lambda: None),
        identity=SimpleNamespace(replica="b"))
    now = Receiving(receiver, SimpleNamespace(process=1, replica="a", session=0))

    async def nothing():
        pass

    async def stage():
        await now._on_disk(now._begin_draft, 1)
        now._waiting = [b"x"]
        await now._flush()
        await now._on_disk(now._draft.complete, SimpleNamespace(clock={}, actors=(), records=0,
                                                                batches=0))

    now._begin = now._compare = nothing
    now._stage = stage
    task = asyncio.create_task(now.run())
    await asyncio.to_thread(entered.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert overlapped == [False] and discarded.is_set()
    assert not list(tmp_path.glob("*.tmp")) and receiver._tail.gate == {}
    assert (asked_twice == [1]) == (at == "publish")


def test_what_is_sent_slowly_is_packed_while_that_helps():
    async def sizes(packing: Packing, data: bytes, seconds: float) -> list[int]:
        """seconds: that a byte takes."""
        found = []
        for _ in range(100):
            out, size = await packing.pack(data)
            assert (unpacked(out, size) if size else out) == data
            packing.sent(len(out), seconds * len(out))
            found.append(len(out))
        return found

    async def work() -> None:
        text, noise = b"some text " * 1000, random.Random(1).randbytes(10_000)
        packing = Packing()
        assert set(await sizes(packing, text, 0.0)) == {len(text)}
        assert (await sizes(packing, text, 1e-3))[-1] < 200
        assert (await sizes(packing, noise, 1e-6))[-1] == len(noise)
        assert (await sizes(packing, text, 1e-3))[-1] < 200
        assert (await sizes(packing, text, 0.0))[-1] == len(text)
        for data in (b"x" * 1000, b"x" * (PACK_MOST + 1)):
            assert await packing.pack(data) == (data, 0)

    asyncio.run(work())


@pytest.mark.parametrize("data, size", [
    (b"", 10), (b"x", 10), (zlib.compress(b"y" * 100), 99), (zlib.compress(b"y" * 100), 101),
    (zlib.compress(b"y" * 100)[:-1], 100), (zlib.compress(b"y" * 100) + b"z", 100),
    (zlib.compress(bytes(100 << 20)), 1000)])
def test_what_does_not_unpack_to_what_was_said(data, size):
    with pytest.raises(Refusal):
        unpacked(data, size)


def test_what_is_said_to_be_too_large_is_not_unpacked():
    with pytest.raises(Refusal, match="more than"):
        asyncio.run(Receiving._take(None, proto.Given(step=proto.RECORD, size=PACK_MOST + 1), b""))
