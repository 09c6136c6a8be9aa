"""The connection that pushes go on, between real servers."""
from tests.real import links as real_links
from tests.real.cluster import Server, until
from tests.real.links import Link, Links


class Silent(Link):
    """Carries nothing for connections that are older than `since`, and says so to nobody: as a
    router that lost its tables does."""
    since = 0

    async def _pump(self, reader, writer, way):
        mine = Silent.since
        while data := await reader.read(1 << 15):
            if mine == Silent.since:
                writer.write(data)
                await writer.drain()


def test_a_silent_connection_is_noticed_although_clocks_are_compared_once_an_hour(monkeypatch):
    monkeypatch.setattr(real_links, "Link", Silent)
    links = Links()
    settings = {"sync_interval": "1h", "sync_timeout": "1s", "retry_interval": "50ms"}
    a, b = Server("a", **settings), Server("b", **settings)
    a.peers, b.peers = [links.to(b.http_port).address], [links.to(a.http_port).address]
    a.start(wait=False)
    b.start(wait=False)
    a.wait_ready()
    b.wait_ready()
    until(lambda: a("SET", "x", "1") and a("WAIT", 1, 1000) == 1)
    Silent.since += 1
    a("SET", "y", "2")
    until(lambda: b("GET", "y") == b"2")
    links.close()
