"""Why a peer cannot be talked to, in words that say what to mend.

An exception says what a socket saw; often the address is not what it was taken for. Who is there
then is found out by saying PING, in the clear and, where that tells nothing, over TLS: Redis
replies with +PONG or an error, HTTP a status line, and a TLS server takes TLS alone. It is asked
only after an attempt that was connected and failed before any reply came. Nothing but PING is sent,
so no certificate is looked at.
"""
from __future__ import annotations

import asyncio
import os
import socket
import ssl
from urllib.parse import urlsplit

import aiohttp

from crdtredis.replication.resolver import Resolver
from crdtredis.replication.wire import one_line

PATIENCE = 2.0                          # seconds for each way of asking


def words(fault: BaseException) -> str:
    """A failure to reach a peer, or to go on talking to it."""
    match fault:
        case aiohttp.ClientConnectorCertificateError():
            why = getattr(fault.certificate_error, "verify_message", "")
            by = "tls_crl_file" if "CRL" in why or why == "certificate revoked" else "tls_ca_file"
            return f"its certificate is not trusted here ({by}): {why or fault.certificate_error}"
        case aiohttp.ClientConnectorSSLError():
            return f"TLS fails: {fault.os_error}"
        case aiohttp.ClientConnectorDNSError():
            why = fault.os_error.strerror or fault.os_error
            return f"the name {fault.host} cannot be looked up: {why}"
        case aiohttp.ClientConnectorError():
            number = fault.os_error.errno
            why = os.strerror(number) if number else str(fault.os_error)
            return f"it cannot be reached: {why or 'it closed the connection'}"
        case aiohttp.ServerDisconnectedError():
            return "it closed the connection without a reply"
        case TimeoutError():
            return f"it does not reply: {fault}".rstrip(": ")
        case OSError() if "[SSL" in str(fault):
            return f"TLS fails: {fault.strerror or fault}"
        case OSError() if fault.errno:
            return os.strerror(fault.errno)
        # of a request that could not be written, without a number
        case aiohttp.ClientOSError():
            return "it closed the connection before it had read what was sent"
    return one_line(str(fault)) or type(fault).__name__        # it may quote what came


async def recognise(url: str, fault: aiohttp.ClientError | TimeoutError) -> str:
    """Who is at this address instead of a replica, given how an attempt failed; "" where nobody can
    be named."""
    parts = urlsplit(url)
    at, expects_tls = parts.netloc, parts.scheme == "https"
    if isinstance(fault,
                  (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorDNSError)):
        return ""
    if isinstance(fault, (aiohttp.ClientConnectorError, TimeoutError)) and not expects_tls:
        # nobody is there, or awake; a TLS greeting may mean nothing to who is
        return ""
    clear = await who_replies(parts.hostname, parts.port, None)
    if clear == "http":
        return (f"{at} speaks HTTP without TLS: name the peer http://{at}, or set enable_tls there"
                if expects_tls else "")
    tls = "" if clear == "redis" else await who_replies(parts.hostname, parts.port,
                                                        any_certificate())
    if expects_tls and tls == "http" and isinstance(fault, (aiohttp.ServerDisconnectedError,
                                                            aiohttp.ClientOSError)):
        return ("it may not accept this replica's certificate, see its log (tls_client_cert_file): "
                + words(fault))
    if "redis" in (clear, tls):
        return f"{at} is a port for Redis clients: name the peer by its http_port"
    return f"{at} speaks TLS: name the peer https://{at}" if tls and not expects_tls else ""


def any_certificate() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def who_replies(host: str, port: int, tls: ssl.SSLContext | None) -> str:
    """Who replies to PING: "redis", "http" or "other"; "" where no connection comes about, or
    nothing is said in the clear."""
    data, is_there = b"", False
    try:
        async with asyncio.timeout(PATIENCE):
            found = await Resolver().resolve(host, port, socket.AF_UNSPEC)
            reader, writer = await asyncio.open_connection(found[0]["host"], port, ssl=tls)
            is_there = True
            try:
                writer.write(b"PING\r\n")
                data = await reader.read(64)
            finally:
                writer.transport.abort()
    except OSError:
        # TimeoutError and ssl.SSLError are such: that is a reply, too
        pass
    if data[:1] in (b"+", b"-"):
        return "redis"
    return "http" if data.startswith(b"HTTP/") else "other" if data or is_there and tls else ""
