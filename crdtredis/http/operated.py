"""What the routes for operators need of the server. Server has it; HTTP does not know Server."""
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import ssl


class Operated(Protocol):
    config: Any                         # config.Config
    executor: Any                       # _engine.Executor
    replica: Any                        # _core.Replica
    folder: Path                        # the data directory
    log: Any                            # storage.segments.SegmentLog
    identity: Any                       # storage.identity.Identity
    disk_low: bool                      # less is free than disk_free_warning
    certificate_ends: dict[str, float]  # s since 1970, by setting: certificates.ends
    followers: Any                      # storage.followers.Followers
    http_limit: int                     # HTTP connections at a time

    def health(self) -> tuple[list[str], list[str]]:
        """(reasons why this server should not be given clients, warnings). In the engine thread."""

    def refuses_peer(self, connection: ssl.SSLObject | None) -> str:
        """Why who calls over it is no peer; "": it may be one. None: it is without TLS."""
