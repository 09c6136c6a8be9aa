"""What the parts of the sync thread share: the settings in force, and the means of talking to
peers.
"""
from __future__ import annotations

import random
import ssl
from collections.abc import Callable

import aiohttp
from multidict import CIMultiDict

from crdtredis.replication import plan
from crdtredis.replication.consumers import Consumers
from crdtredis.replication.messages import Messages
from crdtredis.replication.wire import CONTENT_TYPE


class Runtime:
    """settings: assigned as a whole when the configuration changes; read them anew each time.
    headers: what every request to a peer has in common. http: set by whoever runs the loop. tls:
    for connections to peers, as aiohttp has it.
    stopping: set once; from then on nothing new begins. messages: None: PUBLISH stays at home.
    consumers: None: other replicas are told nothing of consumer groups.
    ended: what is to be told of processes that have ended (ended.py), replaced by the engine
    thread; hear_ended: has it hear what others tell."""

    def __init__(self, replica: str, settings: plan.Settings,
                 chance: random.Random | None = None) -> None:
        self._replica = replica
        self.settings = settings
        self.chance = chance or random.Random()
        self.http: aiohttp.ClientSession | None = None
        self.tls: ssl.SSLContext | bool = True
        self.stopping = False
        self.messages: Messages | None = None
        self.consumers: Consumers | None = None
        self.ended = b""
        self.hear_ended: Callable[[bytes], None] = lambda told: None

    @property
    def settings(self) -> plan.Settings:
        return self._settings

    @settings.setter
    def settings(self, settings: plan.Settings) -> None:
        self._settings = settings
        self.headers = CIMultiDict({"Content-Type": CONTENT_TYPE, "X-Replica": self._replica})
        if settings.token:
            self.headers["Authorization"] = f"Bearer {settings.token}"


def certificate_end(connection: ssl.SSLObject | None) -> int:
    """Until when the certificate holds that the other end has shown, in s since 1970; 0: it has
    shown none, or none that was looked at. None: it is without TLS."""
    shown = connection.getpeercert() if connection is not None else None
    return ssl.cert_time_to_seconds(shown["notAfter"]) if shown else 0
