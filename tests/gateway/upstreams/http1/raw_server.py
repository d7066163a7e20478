"""A server on a real socket that is told every byte: for what a well-behaved server, or a library's, would never send.

async def play(peer: Peer) -> None:
    await peer.request()
    await peer.say(b"HTTP/1.1 200 OK\r\n", b"content-length: 2\r\n\r\nhi")

async with raw_server(play) as server:
    ...                         # call server.url
    server.peers[0].requests    # what came on the first connection
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

CERTIFICATE = Path(__file__).with_name("localhost.pem")
PATIENCE_S = 30.0
"""How long anything may take that must happen."""


class Peer:
    """A connection as its server sees it. `requests`: head and body of each; `sent` counts the bytes said; `left` is
    set once the client was seen to close it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.requests: list[tuple[bytes, bytes]] = []
        self.sent = 0
        self.left = asyncio.Event()

    async def request(self) -> bytes:
        """The next request, whole; its body. Raises `IncompleteReadError` where none comes."""
        head = await self.head()
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        self.requests.append((head, await self._reader.readexactly(length)))
        return self.requests[-1][1]

    async def head(self) -> bytes:
        """The next request's head; its body stays unread."""
        return await self._reader.readuntil(b"\r\n\r\n")

    async def say(self, *pieces: bytes) -> None:
        """Each piece is sent on its own, and the event loop polls before the next."""
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()
            self.sent += len(piece)
            for _ in range(2):
                await asyncio.sleep(0)

    async def until_left(self) -> None:
        """Until the client has closed the connection, however."""
        try:
            while await self._reader.read(1 << 16):
                pass
        except ConnectionError:
            pass  # a reset is an end too
        self.left.set()

    async def end(self) -> None:
        """Close it in order."""
        self._writer.close()
        await self._writer.wait_closed()

    def reset(self) -> None:
        """Break it: TCP's RST."""
        plain = self._writer.get_extra_info("socket")
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


Play = Callable[[Peer], Awaitable[None]]


def saying(*pieces: bytes) -> Play:
    """Answers each request so."""

    async def play(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(*pieces)

    return play


def once(*pieces: bytes) -> Play:
    """Answers one request so, and ends the connection."""

    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.say(*pieces)

    return play


@dataclass
class RawServer:
    """`port` is where it listens; `peers` are its connections so far, the oldest first."""

    host: str
    scheme: str
    port: int = 0
    peers: list[Peer] = field(default_factory=list)

    @property
    def url(self) -> str:
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{shown}:{self.port}/v1/chat/completions"

    @property
    def requests(self) -> list[tuple[bytes, bytes]]:
        """Those of all connections."""
        return [request for peer in self.peers for request in peer.requests]


@asynccontextmanager
async def raw_server(play: Play, *, host: str = "127.0.0.1", tls: bool = False) -> AsyncIterator[RawServer]:
    """Plays to each connection, then closes it. What `play` raises is raised at the end, but for a client's going."""
    made, playing = RawServer(host, "https" if tls else "http"), set[asyncio.Task[None]]()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        playing.add(task)
        peer = Peer(reader, writer)
        made.peers.append(peer)
        try:
            await play(peer)
            await peer.end()
        except (ConnectionError, asyncio.IncompleteReadError):
            peer.left.set()  # the client is gone, as a client may
        except asyncio.CancelledError:
            pass  # the server closes
        finally:
            with suppress(AttributeError):  # asyncio forgot the loop of a connection that has closed by itself
                writer.transport.abort()

    server = await asyncio.start_server(accept, host, 0, ssl=server_tls() if tls else None)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for task in playing:
            task.cancel()
        await asyncio.gather(*playing)


def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


def client_tls() -> ssl.SSLContext:
    """Trusts the servers of this file."""
    return ssl.create_default_context(cafile=str(CERTIFICATE))
