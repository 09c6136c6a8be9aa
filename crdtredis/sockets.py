"""Listening sockets: the addresses that a server is told to serve, and its Unix socket."""
from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterable

from crdtredis.errors import EXIT_ADDRESS, StartError


def resolve(address: str) -> list[str]:
    """IP addresses of a `bind` word; "*" is all of IPv4 and, where the machine has it, IPv6."""
    name = address.lstrip("-")
    if name in ("*", "::*"):
        return (["::"] if name == "::*"
                else ["0.0.0.0", *(["::"] if os.path.exists("/proc/net/if_inet6") else [])])
    try:
        return list(dict.fromkeys(str(found[4][0])
                                  for found in socket.getaddrinfo(name, None,
                                                                  type=socket.SOCK_STREAM)))
    except (OSError, UnicodeError) as e:        # UnicodeError: no name can be so
        if address.startswith("-"):
            return []
        raise StartError(f"bind: {name} cannot be resolved: {getattr(e, 'strerror', None) or e}",
                         EXIT_ADDRESS) from None


def hosts(addresses: Iterable[str]) -> dict[str, str]:
    """{IP address: the word of `bind` that names it}. Each once: Redis's own "* -::*" names [::]
    twice. That it may be missing is enough to say of one."""
    found: dict[str, str] = {}
    for address in addresses:
        for host in resolve(address):
            if host not in found or address.startswith("-"):
                found[host] = address
    return found


def listens_at(addresses: Iterable[str], host: str | None) -> bool:
    """Whether a server with these words of `bind` listens at the IP address `host`, or, so called,
    localhost. No name is looked up."""
    host = "127.0.0.1" if host == "localhost" else host or ""
    family = family_of(host)
    own = hosts(a for a in addresses if a.endswith("*") or family_of(a.lstrip("-")))
    if host in own or ANY.get(family) not in own:
        return host in own
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        try:
            s.bind((host, 0))           # one of this machine's
        except OSError:
            return False
    return True


ANY = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}


def family_of(host: str) -> int | None:
    """Of an IP address; None: it is none."""
    for family in ANY:
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return family
    return None


def listening(host: str, port: int, backlog: int) -> socket.socket:
    """A socket that listens on one address and does not block. OSError where that is impossible."""
    s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ":" in host:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.bind((host, port))
        s.listen(backlog)
        s.setblocking(False)
    except BaseException:
        s.close()
        raise
    return s


def may_be_missing(address: str, e: OSError) -> bool:
    return address.startswith("-") and e.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def show(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_socket_path(path: str) -> None:
    """OSError where the path is something else than a socket, or a socket somebody listens on: only
    a stale one may be replaced."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise OSError(errno.EEXIST, "the path is there and is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as s:
        try:
            s.connect(path)
        except OSError:
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def remove_socket(path: str, inode: int) -> None:
    """Unless another server has put its own there."""
    try:
        if os.stat(path).st_ino == inode:
            os.unlink(path)
    except FileNotFoundError:
        pass
