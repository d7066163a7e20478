"""A TCP proxy between a relay and its server that loses what the server says of stored messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

_MESSAGES = (b"MSG ", b"HMSG ")


class LossyProxy:
    """`lose(n)` says whether the n-th acknowledgement (from 1) is kept from the client; `lost` counts those.

    Reads as much of https://docs.nats.io/reference/reference-protocols/nats-protocol as tells one message from the
    next. Requests other than publishing are answered.
    """

    def __init__(self, port: Callable[[], int], lose: Callable[[int], bool]) -> None:
        self._port, self._lose = port, lose
        self._acknowledged = 0
        self._relaying: set[asyncio.Task[None]] = set()
        self.url = ""
        self.lost = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until one side ends it."""
        theirs, ours = await asyncio.open_connection("127.0.0.1", self._port())
        ways = {asyncio.create_task(_copy(reader, ours)), asyncio.create_task(self._answers(theirs, writer))}
        self._relaying |= ways
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        self._relaying -= ways
        for end in (ours, writer):
            end.transport.abort()

    def hang_up(self) -> None:
        for way in self._relaying:
            way.cancel()

    async def _answers(self, server: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        while line := await server.readline():
            body = b""
            if line.startswith(_MESSAGES):
                body = await server.readexactly(int(line.split()[-1]) + 2)
            if b'{"stream":' in body and self._loses():
                continue
            client.write(line + body)
            await client.drain()

    def _loses(self) -> bool:
        self._acknowledged += 1
        loses = self._lose(self._acknowledged)
        self.lost += loses
        return loses


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


@asynccontextmanager
async def lossy(url: str, lose: Callable[[int], bool]) -> AsyncIterator[LossyProxy]:
    """A proxy in front of the server at `url`."""
    credentials, _, address = url.rpartition("@")
    proxy = LossyProxy(lambda: int(address.rpartition(":")[2]), lose)
    listening = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.url = f"{credentials}@127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        listening.close()
        proxy.hang_up()
        await listening.wait_closed()
