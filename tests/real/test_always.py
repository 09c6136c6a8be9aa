"""appendfsync always on real servers: what is acknowledged outlives a loss of power, whatever
failed before."""
import errno

import pytest

from tests.real.cluster import Server, until
from tests.respclient import ReplyError, encode
from tests.storage.faults import Disk


@pytest.mark.parametrize("seconds", [0, 3])
def test_acknowledged_after_an_iteration_of_which_only_the_first_record_was_written(seconds):
    """The loop iteration has a large op and small ones, so two records; the disk takes one.
    seconds: how long the disk takes to sync the first file."""
    s = Server("a", appendfsync="always")
    disk = Disk(s.data_dir)
    s.start(**disk.environment)
    for i in range(5):
        s("SET", f"before{i}", i)
    if seconds:
        disk.fail("fdatasync", "segment-0000000000000001", 0, delay=float(seconds))
    rule = disk.fail("write", "segment-", errno.ENOSPC, skip=1, times=1)
    with s.connect() as c:
        large = encode("SET", "p0", "x" * 1_200_000)
        c.socket.sendall(large[:-1])
        c.socket.sendall(large[-1:] + b"".join(encode("SET", f"p{i}", "y") for i in range(1, 12)))
        replies = [c.read() for _ in range(12)]
    assert disk.hits(rule)
    acknowledged = [f"p{i}" for i, reply in enumerate(replies)
                    if reply == b"OK"] + [f"before{i}" for i in range(5)]

    def write() -> bool:
        try:
            s("SET", f"after{len(acknowledged)}", "z")
        except ReplyError as e:
            assert str(e).startswith("MISCONF")
            return False
        acknowledged.append(f"after{len(acknowledged)}")
        return True

    until(write)
    for _ in range(20):
        assert write()
    s.kill()
    disk.power_loss()
    s.start(**disk.environment)
    assert [k for k in acknowledged if s("EXISTS", k) == 0] == []
