"""A new segment begins while ops leave the causal buffer: its header must not name what is not in
the log yet."""
import mmap
import struct
import time

from tests.real.chaos import library
from tests.real.cluster import Server, until


def test_a_start_after_segments_begun_while_held_ops_came_free(tmp_path):
    settings = {"sync_interval": "200ms", "retry_interval": "50ms", "max_clock_skew": "5s",
                "max_segment_size": "1mb", "appendfsync": "no"}
    a, b = Server("a", **settings), Server("b", **settings)
    a.peers, b.peers = [b.address], [a.address]
    clock = tmp_path / "clock"
    clock.write_bytes(bytes(8))
    with open(clock, "r+b") as f, mmap.mmap(f.fileno(), 0) as ahead:
        struct.pack_into("=q", ahead, 0, 40_000)
        a.start(LD_PRELOAD=str(library(tmp_path)), WRONG_CLOCK=str(clock))
        with a.connect() as c:
            for i in range(2400):
                c("SET", f"k{i}", "x" * 10_000)
        struct.pack_into("=q", ahead, 0, 0)
        b.start()
        until(lambda: int(b("INFO").split(b"waiting_ops:")[1].split()[0]) == 2400, 60)
        b("CONFIG", "SET", "accept-stamps-until", int(time.time()) + 60)
        until(lambda: b("DBSIZE") == 2400, 60)
        digest = b("CRDT.DIGEST")
        assert len(list(b.data_dir.glob("segment-*.log"))) > 4
        b.kill()
        a.kill()
        b.start()
        assert b("DBSIZE") == 2400 and b("CRDT.DIGEST") == digest
