"""`crdt-redis healthcheck`: is the server on this machine well? For containers and supervisors, who
take an exit code.

Where is that server? Where its settings say: the same flags, environment and file are read. It is
asked at an address that it listens at, which is one of this machine's, so its certificate, which is
for its name, is not judged. It is shown no secret: whoever took the port over while it was down
would have it. /health wants none, and a server that asks for a password replies.
"""
from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from crdtredis.arguments import Arguments
from crdtredis.config import Config
from crdtredis.errors import StartError
from crdtredis.kinds import parse_duration
from crdtredis.settings import CONFIG_VARIABLE
from crdtredis.sources import ConfigError, Fault, parse_flags

if TYPE_CHECKING:
    import ssl

ILL = 1                         # Docker knows 0 and 1 only
MOST = 1 << 16                  # bytes of a reply
# what a server says that is well, to one that shows no password
STRANGERS = (b"-NOAUTH", b"-NOPERM")
LOOPBACK = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::*": "::1", "::": "::1"}


class Ill(Exception):
    """Why the server is not well."""


def arguments() -> Arguments:
    p = Arguments("healthcheck", allow_abbrev=False,
                  usage="crdt-redis healthcheck [FILE] [--alive] [--within TIME] [flags]",
                  description="""\
Asks the running server of these settings, which it takes from flags, environment and FILE as the
server does, whether all is well with it: GET /health must reply 200. Where there is no http_port,
PING must be replied to, by the password's being asked for, too. It shows no secret. It prints
what it was told.""", epilog="""\
It ends with 0 where all is well, else with 1, also where settings are wrong.""")
    p.add_argument("--alive", action="store_true", help="ask only for a reply to PING, "
                   "whatever it says: a restart does not mend a full disk, and loading takes the "
                   "time it takes. For a check whose failure restarts the server")
    p.add_argument("--within", metavar="TIME", default="3s",
                   help="what it may take in all, at most an hour; without it 3s")
    p.add_argument("--config", metavar="FILE", help="as the server's")
    return p


def main(args: list[str]) -> int:
    file = args.pop(0) if args and not args[0].startswith("-") else None
    try:
        a, flags = arguments().parse_known_args(args)
        faults: list[Fault] = []
        given, _ = parse_flags(flags, faults, {})
        try:
            within = parse_duration(a.within) / 1e9
        except ValueError:
            within = 0
        if not 0 < within <= 3600:
            faults.append(Fault("--within", "command line",
                                f"expected a time such as 3s, at most 1h, not {a.within}"))
        config = Config.load(given, os.environ,
                             a.config or file or os.environ.get(CONFIG_VARIABLE), faults=faults)
        with at_most(within):
            said = (ping(config, a.alive) if a.alive or not config.http_port else health(config))
    except (ConfigError, StartError, Ill) as e:
        for line in str(e).splitlines():
            print(f"crdt-redis: {line}", file=sys.stderr)
        return ILL
    print(said)
    return 0


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """However slowly somebody replies, and whatever fails is Ill."""
    def over(*_: object) -> NoReturn:
        raise TimeoutError(0, f"no reply within {seconds:g} s")

    signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except OSError as e:
        raise Ill(f"{e.filename or 'the server'}: {e.strerror or e}") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def reach(addresses: tuple[str, ...], port: int) -> socket.socket:
    """The first of a server's own addresses that somebody listens at."""
    faults = []
    for address in addresses:
        host = LOOPBACK.get(address.lstrip("-"), address.lstrip("-"))
        try:
            return socket.create_connection((host, port))
        except TimeoutError:
            raise
        except OSError as e:
            faults.append(OSError(e.errno, e.strerror or str(e), f"{host}:{port}"))
    raise faults[0]


def unjudged() -> ssl.SSLContext:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def health(config: Config) -> str:
    import json
    from http.client import HTTPConnection, HTTPException

    s = reach(config.http_addresses, config.http_port)
    where = "/health"
    if config.enable_tls:
        s = unjudged().wrap_socket(s)
    connection = HTTPConnection(s.getpeername()[0], config.http_port)
    connection.sock = s
    try:
        connection.request("GET", where)
        response = connection.getresponse()
        text = response.read(MOST).decode("utf-8", "replace")
    except (HTTPException, ConnectionError) as e:
        raise Ill(f"{where}: {e or type(e).__name__}: is that its http_port?") from None
    finally:
        connection.close()
    try:
        reasons = [str(reason) for reason in json.loads(text).get("reasons", ())]
    except (ValueError, AttributeError, TypeError, RecursionError):     # it is another's
        reasons = [text[:200]]
    if response.status != 200:
        raise Ill(f"{where}: {response.status}: {'; '.join(reasons) or 'failing'}")
    return f"{where}: {response.status}"


def ping(config: Config, alive: bool) -> str:
    """PING, at the door that is least work. With alive any reply will do."""
    if config.unixsocket:
        s = socket.socket(socket.AF_UNIX)
        try:
            s.connect(config.unixsocket)
        except TimeoutError:
            raise
        except OSError as e:
            raise OSError(e.errno, e.strerror, config.unixsocket) from None
    elif config.server_port:
        s = reach(config.bind, config.server_port)
    else:                               # there is one of the three
        context = unjudged()
        if config.tls_cert_file:        # for those that must show one
            context.load_cert_chain(config.tls_cert_file, config.tls_key_file,
                                    password=lambda: config.tls_key_file_pass)
        s = context.wrap_socket(reach(config.bind, config.tls_port))
    with s:
        s.sendall(b"PING\r\n")
        reply = b""
        while b"\n" not in reply and len(reply) < MOST:
            piece = s.recv(MOST)
            if not piece:
                raise Ill("PING: it closed the connection without a reply")
            reply += piece
    line = reply.splitlines()[0]
    if reply[:1] not in (b"+", b"-") or not (alive or line == b"+PONG"
                                             or line.startswith(STRANGERS)):
        raise Ill(f"PING: {line[:200].decode('utf-8', 'replace')}")
    return f"PING: {line[:200].decode('utf-8', 'replace')}"
