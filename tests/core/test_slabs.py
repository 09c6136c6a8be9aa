"""Small blocks of memory (core/slab.pxi). Where a sanitizer is to see each block by itself, or the
addresses are not to be had, malloc gives them, and all that is said here of bytes still holds."""
import random
import resource
import subprocess
import sys

import pytest

from crdtredis._core import BlocksProbe

SLAB = 1 << 16


def has_slabs() -> bool:
    blocks = BlocksProbe()
    return blocks.is_slab(blocks.add(8, 1))


@pytest.mark.parametrize("seed", range(3))
def test_blocks_keep_what_is_in_them(seed):
    r = random.Random(seed)
    before, slabs = BlocksProbe.used(), BlocksProbe.slabs()
    blocks, held = BlocksProbe(), []
    for step in range(30_000):
        # grows, shrinks, and grows again
        most = 4000 if step // 5000 % 2 == 0 else 200
        n = r.choice((r.randint(1, 64), r.randint(1, 520), 512, 513))
        if held and (len(held) > most or r.random() < 0.3):
            i = r.randrange(len(held))
            held[i], held[-1] = held[-1], held[i]
            at = held.pop()
            if r.random() < 0.3:
                held.append(blocks.resize(at, n, r.randrange(256)))
            else:
                blocks.free(at)
        else:
            held.append(blocks.add(n, r.randrange(256), zeroed=r.random() < 0.2))
    for at in held:
        blocks.free(at)
    assert BlocksProbe.used() == before and BlocksProbe.slabs() == slabs


@pytest.mark.parametrize("n, size", [(1, 8), (24, 24), (41, 48), (56, 56), (505, 512), (512, 512)])
def test_a_block_takes_no_more_than_its_bytes_to_the_next_eight(n, size):
    blocks = BlocksProbe()
    bytes_before, slabs = BlocksProbe.used()[0], BlocksProbe.slabs()
    many = 3 * (SLAB // size)
    for _ in range(many):
        blocks.add(n, 7)
    if has_slabs():
        assert BlocksProbe.used()[0] - bytes_before == many * size
        assert BlocksProbe.slabs() - slabs <= 4 * SLAB
    else:
        assert BlocksProbe.slabs() == 0


def test_a_slab_that_is_empty_serves_other_sizes():
    slabs = BlocksProbe.slabs()
    for n in range(8, 513, 8):
        blocks = BlocksProbe()
        held = [blocks.add(n, 3) for _ in range(2 * (SLAB // n))]
        assert BlocksProbe.slabs() - slabs <= 3 * SLAB
        for at in held[::2] + held[1::2]:
            blocks.free(at)
        assert BlocksProbe.slabs() == slabs


def test_a_full_slab_takes_blocks_again_when_one_is_freed():
    blocks = BlocksProbe()
    held = [blocks.add(40, i % 256) for i in range(20 * (SLAB // 40))]
    slabs = BlocksProbe.slabs()
    for turn in range(10):
        for i in range(turn % 3, len(held), 3):
            blocks.free(held[i])
        for i in range(turn % 3, len(held), 3):
            held[i] = blocks.add(33, turn)
        assert BlocksProbe.slabs() <= slabs + SLAB


def test_the_pages_of_empty_slabs_go_back_and_come_again():
    def resident():
        with open("/proc/self/statm") as f:
            return int(f.read().split()[1]) * resource.getpagesize()

    blocks = BlocksProbe()
    held = [blocks.add(512, 3) for _ in range(60_000)]
    full = resident()
    for at in held:
        blocks.free(at)
    assert BlocksProbe.give() == 0
    if has_slabs():
        assert resident() < full - 20_000_000
    for n in (512, 100):
        at = [blocks.add(n, 5) for _ in range(60_000)]
        for a in at:
            blocks.free(a)


def test_without_addresses_malloc_gives_all():
    code = ("from crdtredis._core import BlocksProbe; b = BlocksProbe(); "
            "at = [b.add(n % 600 + 1, n % 256, n % 3 == 0) for n in range(20_000)]; "
            "assert not any(map(b.is_slab, at)) and b.slabs() == 0 and b.give() == 0; "
            "at = [b.resize(a, 700 - i % 600, 1) for i, a in enumerate(at)]; "
            "[b.free(a) for a in at]; print('all freed')")

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))

    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True,
                          preexec_fn=limit if has_slabs() else None)
    assert done.stdout == "all freed\n", done.stderr
