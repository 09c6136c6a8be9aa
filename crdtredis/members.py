"""The record of a member of the cluster, as the system's database keeps it (core/codec.pxd): a hash
`members`, replica id -> record. What is done with it: replication/members.py."""
from __future__ import annotations

from dataclasses import dataclass

import orjson

from crdtredis.kinds import is_peer

MEMBERS = b"members"                    # the key


@dataclass(frozen=True)
class Member:
    url: str                            # "": nobody can call it, it calls others
    since: int                          # ms since 1970: when this was written
    removed: bool = False

    def record(self) -> bytes:
        return orjson.dumps({"url": self.url, "since": self.since, "removed": self.removed})


def read_member(record: bytes) -> Member:
    """ValueError where it is none."""
    found = orjson.loads(record)
    if not isinstance(found, dict):
        raise ValueError("not a record")
    url, since, removed = found.get("url"), found.get("since"), found.get("removed")
    if (not isinstance(url, str) or url and not ("://" in url and is_peer(url))
            or type(since) is not int or since < 0 or type(removed) is not bool):
        raise ValueError("not a record")
    return Member(url, since, removed)
