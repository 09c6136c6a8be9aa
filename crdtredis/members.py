"""The records of a member of the cluster, as the system's database keeps them (core/codec.pxd): a
hash `members`, in which each replica has two fields. One, called as the replica, it writes itself:
how it can be called. The other, `removed` and its id, is what operators wrote: whether it was
removed. So a replica that writes its address cannot undo a removal of which it has not heard. What
is done with them: replication/members.py."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from crdtredis.kinds import is_peer

MEMBERS = b"members"                    # the key
REMOVED = "removed "                    # a field begins so; no id has a space


@dataclass(frozen=True)
class Member:
    url: str                            # "": nobody can call it, it calls others
    since: int                          # ms since 1970: when this was written
    removed: bool = False

    def record(self) -> bytes:
        """What the replica writes."""
        return orjson.dumps({"url": self.url, "since": self.since})


def own_field(replica: str) -> bytes:
    return replica.encode()


def removed_field(replica: str) -> bytes:
    return (REMOVED + replica).encode()


def removal(removed: bool, now_ms: int) -> bytes:
    """What operators have written."""
    return orjson.dumps({"removed": removed, "since": now_ms})


def read_member(record: bytes) -> Member:
    """ValueError where it is none."""
    found = fields(record)
    url = found.get("url")
    if not isinstance(url, str) or url and not ("://" in url and is_peer(url)):
        raise ValueError("not a record")
    return Member(url, found["since"])


def read_removal(record: bytes) -> tuple[bool, int]:
    """(removed?, since when). ValueError where it is none."""
    found = fields(record)
    if type(found.get("removed")) is not bool:
        raise ValueError("not a record")
    return found["removed"], found["since"]


def fields(record: bytes) -> dict[str, Any]:
    found = orjson.loads(record)
    if not isinstance(found, dict):
        raise ValueError("not a record")
    since = found.get("since")
    if type(since) is not int or since < 0:
        raise ValueError("not a record")
    return found
