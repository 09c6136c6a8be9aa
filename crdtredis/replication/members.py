"""Who belongs to the cluster: replicated data, so that a new replica need be told one address only,
and that removing one anywhere removes it everywhere.

The system's database holds a record of each (crdtredis/members.py). A replica writes its own, once
it has met a peer and has all that this one has; the others find it there and call it. A record is
written anew when the address changes, never at a restart. Records of removed replicas stay, so that
they are told so when they come back. Of two concurrent writes of one record the later holds, as in
any hash; that a replica was removed is a record by itself, which only CRDT.PEER writes.

Pure: no socket, no thread. What is to be done with it is service.Service's.
"""
from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from crdtredis.kinds import is_loopback
from crdtredis.members import REMOVED, Member, read_member, read_removal
from crdtredis.replication.wire import Refusal, one_line, proto
from crdtredis.storage.identity import REPLICA_ID

log = logging.getLogger("crdtredis.replication")

MEMBERS_MOST = 1000                     # more are not called


class Members:
    """table: replaced, never changed, so that any thread may look."""

    def __init__(self, own: str) -> None:
        self.own = own
        self.table: Mapping[str, Member] = {}

    def update(self, records: Mapping[bytes, bytes]) -> None:
        table: dict[str, Member] = {}
        removed: dict[str, int] = {}
        for name, record in sorted(records.items()):
            try:
                field = name.decode("ascii")
                replica = field.removeprefix(REMOVED)
                if not REPLICA_ID.fullmatch(replica):
                    raise ValueError("no replica can be called so")
                if replica == field:
                    table[replica] = read_member(record)
                else:
                    is_removed, since = read_removal(record)
                    if is_removed:
                        removed[replica] = since
            except ValueError as e:
                log.error("the record of member %r says nothing: %s", one_line(repr(name)), e)
        for replica, since in removed.items():
            url = table[replica].url if replica in table else ""
            table[replica] = Member(url, since, removed=True)
        if len(table) > MEMBERS_MOST:
            log.error("there are %d members: only %d are called", len(table), MEMBERS_MOST)
        self.table = table

    def is_removed(self, replica: str) -> bool:
        member = self.table.get(replica)
        return member is not None and member.removed

    def takes_back(self, asked: Mapping[str, Member] | None, replica: str) -> bool:
        """Does a CRDT.PEER ADD, given when the table was `asked`, undo the removal of this replica?
        One that came later holds."""
        known = None if asked is None else asked.get(replica)
        return (known is not None and known.removed and self.is_removed(replica)
                and known.since == self.table[replica].since)

    def refuse_removed(self, replica: str) -> None:
        if self.is_removed(replica):
            raise Refusal(proto.REMOVED,
                          f"{replica} was removed from the cluster (CRDT.PEER REMOVE): to take it "
                          f"back, CRDT.PEER ADD its address, or its id, at {self.own}")

    def to_call(self) -> dict[str, str]:
        """{replica id: URL} of the others that can be called."""
        found = [(r, m.url) for r, m in self.table.items()
                 if r != self.own and m.url and not m.removed]
        return dict(found[:MEMBERS_MOST])

    def own_record(self, candidates: Iterable[str], now_ms: int) -> bytes | None:
        """What must be written of this replica, which can be called at any of `candidates`, the
        best first; None: what stands there is right, or says that it was removed."""
        urls = list(candidates) or [""]
        mine = self.table.get(self.own)
        if mine is not None and (mine.removed or mine.url in urls and (
                not loopback(mine.url) or loopback(urls[0]))):
            return None
        return Member(urls[0], now_ms).record()


def loopback(url: str) -> bool:
    host = url.partition("://")[2].rpartition(":")[0]
    return is_loopback(host.strip("[]"))
