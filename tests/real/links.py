"""Links between servers that can be cut, in one direction too, slowed and throttled: a TCP proxy in
a thread of its own.

    links = Links()
    link = links.to(server.http_port)  # link.address is what the other server names as its peer
    link.cut()                                  # connections break, new ones are refused
    link.mend()
    link.swallow("back")  # requests arrive, answers never do ("there": requests do not arrive)
    link.delay = 0.1                            # seconds, each way
    link.rate = 200_000                         # bytes a second, each way

One link is one direction of a pair: what A asks of B. So `A -> B` cut and `B -> A` whole is a
network in which A cannot call B.
"""
from __future__ import annotations

import asyncio
import threading

# bytes taken at a time, and so what a throttled link passes at once
READ = 1 << 15


class Link:
    def __init__(self, loop: asyncio.AbstractEventLoop, target: int) -> None:
        self.loop, self.target = loop, target
        self.address = ""
        self.server: asyncio.Server | None = None
        self.up = True
        self.delay = 0.0
        self.rate: float | None = None
        self.swallowed: set[str] = set()
        self._open: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        self.up = False
        self.loop.call_soon_threadsafe(self._break)

    def swallow(self, way: str) -> None:
        self.swallowed.add(way)

    def mend(self) -> None:
        """As new. What was swallowed is gone, so the connections it was gone from break."""
        self.up, self.delay, self.rate = True, 0.0, None
        if self.swallowed:
            self.swallowed.clear()
            self.loop.call_soon_threadsafe(self._break)

    def _break(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            if self.up:
                onward, out = await asyncio.open_connection("127.0.0.1", self.target)
                writers.append(out)
                self._open.update(writers)
                pumps = [asyncio.create_task(self._pump(reader, out, "there")),
                         asyncio.create_task(self._pump(onward, writer, "back"))]
                try:
                    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for p in pumps:
                        p.cancel()
                    await asyncio.gather(*pumps, return_exceptions=True)
        except OSError:
            # nobody listens there: the caller learns of it below
            pass
        finally:
            for w in writers:
                w.transport.abort()
            self._open.difference_update(writers)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter,
                    way: str) -> None:
        while data := await reader.read(READ):
            if self.delay:
                await asyncio.sleep(self.delay)
            if self.rate:
                await asyncio.sleep(len(data) / self.rate)
            if way not in self.swallowed:
                writer.write(data)
                await writer.drain()


class Links:
    """The thread, and all links in it. close() when done."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="links", daemon=True)
        self._thread.start()
        self._all: list[Link] = []

    def to(self, port: int) -> Link:
        link = Link(self.loop, port)

        async def listen() -> int:
            link.server = await asyncio.start_server(link.serve, "127.0.0.1", 0)
            return link.server.sockets[0].getsockname()[1]

        link.address = (
                f"127.0.0.1:{asyncio.run_coroutine_threadsafe(listen(), self.loop).result(10)}")
        self._all.append(link)
        return link

    def mend(self) -> None:
        for link in self._all:
            link.mend()

    def close(self) -> None:
        async def end() -> None:
            for link in self._all:
                link.server.close()
                link.up = False
                link._break()
            if tasks := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(tasks, timeout=5)

        asyncio.run_coroutine_threadsafe(end(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()
