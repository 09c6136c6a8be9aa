"""What a peer's line says where the address is wrong: each case with somebody, or nobody, really
there."""
import asyncio
import ssl
import subprocess

import aiohttp
import pytest

from crdtredis.replication.faults import who_replies, any_certificate, words
from tests.real.cluster import free_port
from tests.replication.network import Node, until


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """For 127.0.0.1, trusted by nobody."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout",
                    folder / "key", "-out", folder / "cert", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"], check=True,
                    capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert", folder / "key")
    return context


async def redis(reader, writer):
    """As a Redis does: lines are replied to, HTTP is hung up on."""
    while (line := await reader.readline()) and not line.startswith(b"POST "):
        writer.write(b"-NOAUTH Authentication required.\r\n" if line == b"PING\r\n"
                     else b"-ERR unknown command\r\n")
        await writer.drain()
    writer.close()


async def waiting(reader, writer):
    """As that, when the greeting holds no end of a line."""
    first = await reader.readexactly(1)
    if first != b"P":
        await reader.read()
    writer.write(b"-NOAUTH Authentication required.\r\n")
    writer.close()


async def web(reader, writer):
    """Some other HTTP server."""
    head = await reader.readline()
    writer.write(b"HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" %
                 (b"404 Not Found" if b" HTTP/" in head else b"400 Bad Request"))
    await writer.drain()
    writer.close()


async def closing(reader, writer):
    await reader.read(1)
    writer.close()


async def said_of(url: str, state: str) -> str:
    """The error of a peer at this address, once it has this state."""
    node = Node("a", max_retries=1, timeout=1.0)
    await node.start([])
    try:
        peer = node.call(url)
        await until(lambda: peer.info().state == state and peer.info().error)
        return peer.info().error
    finally:
        await node.stop()


@pytest.mark.parametrize("scheme, there, over_tls, state, said", [
    ("http", redis, False, "refused",
     "127.0.0.1:{} is a port for Redis clients: name the peer by its http_port"),
    ("https", redis, False, "refused",
     "127.0.0.1:{} is a port for Redis clients: name the peer by its http_port"),
    ("https", waiting, False, "refused",
     "127.0.0.1:{} is a port for Redis clients: name the peer by its http_port"),
    ("http", redis, True, "refused",
     "127.0.0.1:{} is a port for Redis clients: name the peer by its http_port"),
    ("http", web, True, "refused", "127.0.0.1:{0} speaks TLS: name the peer https://127.0.0.1:{0}"),
    ("https", web, False, "refused",
     "127.0.0.1:{0} speaks HTTP without TLS: name the peer http://127.0.0.1:{0}, or set enable_tls "
     "there"),
    ("https", web, True, "down", "its certificate is not trusted here (tls_ca_file): "),
    ("http", web, False, "refused",
     "127.0.0.1:{} is not a replica's http_port: it replied with 404 Not Found"),
    ("http", closing, False, "down", "it closed the connection without a reply"),
])
def test_who_is_there_instead_is_named(certificate, scheme, there, over_tls, state, said):
    async def test():
        server = await asyncio.start_server(there, "127.0.0.1", 0, ssl=certificate if over_tls
                                            else None)
        port = server.sockets[0].getsockname()[1]
        text = await said_of(f"{scheme}://127.0.0.1:{port}", state)
        if said.endswith(": "):
            assert text.startswith(said)
        else:
            assert text == said.format(port)
        server.close()
    asyncio.run(asyncio.wait_for(test(), 30))


@pytest.mark.parametrize("host, said", [
    ("127.0.0.1", "it cannot be reached: Connection refused"),
    ("nobody.invalid", "the name nobody.invalid cannot be looked up: "),
    ("localhost", "it cannot be reached: Connection refused")])
def test_where_nobody_is_there_it_is_said_in_plain_words(host, said):
    text = asyncio.run(asyncio.wait_for(said_of(f"http://{host}:{free_port()}", "down"), 30))
    assert text.startswith(said)


def test_a_connection_lost_while_a_request_is_written_is_said_in_plain_words():
    """As aiohttp raises it: an OSError without a number."""
    lost = aiohttp.ClientOSError(None,
                                 "Can not write request body for "
                                 "http://127.0.0.1:1/replication/handshake")
    assert words(lost) == "it closed the connection before it had read what was sent"


def test_a_replica_is_known_as_http(certificate):
    async def test():
        node = Node("a")
        await node.start([])
        try:
            assert await who_replies("127.0.0.1", node.port, None) == "http"
            assert await who_replies("127.0.0.1", node.port, any_certificate()) == ""
        finally:
            await node.stop()
    asyncio.run(asyncio.wait_for(test(), 30))
