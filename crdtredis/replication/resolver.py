"""Host names of peers to addresses, such that a name that nobody knows delays nobody but its own
peer.

getaddrinfo blocks for as long as the resolver library sees fit (half a minute and more with two
dead name servers), and cannot be stopped. So each name is looked up in a thread of its own, once at
a time whoever asks, and never in the threads that read segments for the peers that are well. The
threads are daemons: a stop waits for none of them.
"""
from __future__ import annotations

import asyncio
import socket
import threading

from aiohttp.abc import AbstractResolver, ResolveResult

MOST = 64                               # names looked up at a time

Found = list[ResolveResult] | OSError


class Resolver(AbstractResolver):
    """For aiohttp, which keeps what was found for a while. Belongs to one event loop."""

    def __init__(self) -> None:
        self._lookups: dict[tuple[str, int, int], asyncio.Future[Found]] = {}

    async def resolve(self, host: str, port: int = 0,
                      family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        """Raises OSError where there is no such name, or too many are being looked up."""
        key = host, port, int(family)
        if key not in self._lookups:
            if len(self._lookups) >= MOST:
                raise OSError(f"{MOST} host names are being looked up already")
            self._begin(key)
        found = await asyncio.shield(self._lookups[key])
        if isinstance(found, OSError):
            raise found
        return found

    def _begin(self, key: tuple[str, int, int]) -> None:
        loop = asyncio.get_running_loop()

        def finish(found: Found) -> None:
            self._lookups.pop(key).set_result(found)

        def work() -> None:
            found = look_up(*key)
            try:
                loop.call_soon_threadsafe(finish, found)
            except RuntimeError:
                pass                    # the loop is closed: the server has stopped meanwhile

        try:
            threading.Thread(target=work, name="name", daemon=True).start()
        except RuntimeError as e:
            raise OSError(f"no thread to look {key[0]} up: {e}") from e
        self._lookups[key] = loop.create_future()

    async def close(self) -> None:
        """What is being looked up is left to its thread."""


def look_up(host: str, port: int, family: int) -> Found:
    """The addresses of a host, or why there are none. Blocks."""
    try:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM,
                                   flags=socket.AI_ADDRCONFIG)
    except OSError as e:
        return e
    except UnicodeError as e:
        return OSError(f"{host} is no host name: {e}")
    out = []
    for kind, _, proto, _, address in found:
        text = str(address[0])
        if kind == socket.AF_INET6 and len(address) > 3 and address[3] and "%" not in text:
            # link-local: only good with its interface
            text = f"{text}%{address[3]}"
        out.append(ResolveResult(hostname=host, host=text, port=int(address[1]), family=kind,
                                 proto=proto,
                                 flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV))
    return out
