"""Those who follow the log (shipping.py), as INFO, /stats, /metrics and /health show them.

What has been sent may still be on its way: the follower itself says what it has (followed.json).
Written by the sync thread, read by any.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from crdtredis.storage.format import LogPosition
    from crdtredis.storage.segments import Pin

LATE = 60_000                   # ms behind from which on /health says it


@dataclass
class Follower:
    address: str
    through: int                # ms: all that was written up to then has been sent
    position: LogPosition       # ... and the log up to there
    backup: bool = True         # it is sent one, and the log behind that
    pin: Pin | None = None      # keeps the log from there on, while it is held

    @property
    def kept(self) -> bool:
        return self.pin is None or self.pin.held

    def fields(self) -> dict[str, Any]:
        return {"address": self.address, "state": "backup" if self.backup else "following",
                "log_kept": self.kept}


class Lag(NamedTuple):
    follower: Follower
    bytes: int
    ms: int


@dataclass
class Followers:
    all: list[Follower] = field(default_factory=list)
    outrun: int = 0             # that ended because the log had gone before they had it

    def lags(self, now: int, bytes_since: Callable[[LogPosition], int]) -> list[Lag]:
        """The one that is furthest behind first. now: ms. bytes_since: of the log, from there to
        its end."""
        found = [Lag(f, max(bytes_since(f.position), 0), max(now - f.through, 0))
                 for f in tuple(self.all)]
        return sorted(found, key=lambda x: x.ms, reverse=True)


def warnings(lags: list[Lag]) -> list[str]:
    found = []
    for f, behind, ms in lags:
        name = f"the follower at {f.address}"
        if not f.kept:
            found.append(f"the log is not kept for {name}, which is {behind} bytes behind")
        elif ms >= LATE and not f.backup:
            found.append(f"{name} lags by {ms // 1000} s and {behind} bytes")
    return found
