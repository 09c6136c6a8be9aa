"""What INFO and the log tell of the machine; what it tells of the data is in tests/commands."""
import pytest

from crdtredis.info import memory_limit

MB = 1 << 20


def tree(root, groups: str, **limits: object) -> int:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for path, limit in limits.items():
        file = root / "sys/fs/cgroup" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{limit}\n")
    return memory_limit(str(root))


@pytest.mark.parametrize("groups, limits, expected", [
    # a service in the second version; what a group above has counts
    ("0::/system.slice/a.service\n", {"system.slice/a.service/memory.max": 64 * MB,
                                      "system.slice/memory.max": "max"}, 64 * MB),
    ("0::/system.slice/a.service\n", {"system.slice/a.service/memory.max": "max",
                                      "system.slice/memory.max": 32 * MB}, 32 * MB),
    # a container that sees itself as the top, and one that does not
    ("0::/\n", {"memory.max": 64 * MB}, 64 * MB),
    ("5:cpu,memory:/docker/x\n0::/\n", {"memory/memory.limit_in_bytes": 64 * MB}, 64 * MB),
    # the first version, without and with a limit
    ("5:memory:/a\n3:cpuset:/\n", {"memory/a/memory.limit_in_bytes": 2**63 - 4096}, 0),
    ("5:memory:/a\n", {"memory/a/memory.limit_in_bytes": 16 * MB,
                       "memory/memory.limit_in_bytes": 2**63 - 4096}, 16 * MB),
    ("0::/a\n", {}, 0), ("", {"memory.max": 64 * MB}, 0)])
def test_the_memory_limit_of_the_control_group(tmp_path, groups, limits, expected):
    assert tree(tmp_path, groups, **limits) == expected


def test_no_control_groups(tmp_path):
    assert memory_limit(str(tmp_path)) == 0
