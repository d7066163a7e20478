"""One connection that carries several answers: a WebSocket, or a stream of server-sent events.

A channel takes messages, each one JSON object, and keeps nothing: what it was given is in the socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from aiohttp import WSMsgType, web
from aiohttp.abc import AbstractStreamWriter

from gateway.exchange.render import SSE_HEADERS
from gateway.wire.sse import PING


@dataclass(frozen=True, slots=True)
class ChannelPace:
    """How many bytes a client may leave in its socket's buffer before its answers are read from the log instead, and
    after how many seconds in which it takes nothing it has left; how often a quiet channel is kept alive. `behind` is
    under asyncio's high-water mark (64 KiB), so that no exchange ever waits for a client."""

    behind: int = 32 << 10
    stalled_s: float = 30.0
    ping_s: float = 15.0


USUAL = ChannelPace()


class Channel(Protocol):
    """The connection, as an answer on it sees it."""

    pace: ChannelPace

    async def send(self, kind: str, message: bytes) -> None:
        """Write a message of a kind; never waits for a client that has no more than `behind` unread. Raises
        `ConnectionError`."""

    def unread(self) -> int:
        """Bytes that the client has not taken, as far as the socket tells."""

    async def taken(self) -> None:
        """Wait until it has taken most of them. Raises `TimeoutError` where it takes nothing for too long."""

    def gone(self) -> bool:
        """Whether the client left."""

    def drop(self) -> None:
        """End the connection now."""

    def tick(self, now: float) -> None:
        """Called a few times a second (monotonic seconds): keeps a quiet connection alive."""


class _Connection:
    """What both kinds do with the request that their connection came with."""

    def __init__(self, request: web.Request, pace: ChannelPace) -> None:
        self._request, self.pace = request, pace

    def unread(self) -> int:
        return unread(self._request)

    async def taken(self) -> None:
        await taken(self._request.writer, self.unread, self.pace.stalled_s)

    def gone(self) -> bool:
        transport = self._request.transport
        return transport is None or transport.is_closing()

    def drop(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()


class SocketChannel(_Connection):
    """A WebSocket. aiohttp itself sends its pings."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse, pace: ChannelPace = USUAL) -> None:
        super().__init__(request, pace)
        self._socket = socket

    async def send(self, kind: str, message: bytes) -> None:
        await self._socket.send_frame(message, WSMsgType.TEXT)

    def gone(self) -> bool:
        return self._socket.closed or super().gone()

    def tick(self, now: float) -> None:
        """Nothing to do."""


class SseChannel(_Connection):
    """Server-sent events, named by the kind of the message."""

    def __init__(self, request: web.Request, monotonic: Callable[[], float], pace: ChannelPace = USUAL) -> None:
        super().__init__(request, pace)
        self._monotonic, self._wrote_at = monotonic, monotonic()
        self._pinging: asyncio.Task[None] | None = None
        self._writer: AbstractStreamWriter | None = None
        self.response = web.StreamResponse(headers=SSE_HEADERS)

    async def open(self, headers: dict[str, str]) -> None:
        """Write the head. Raises `ConnectionError`."""
        self.response.headers.update(headers)
        self._writer = await self.response.prepare(self._request)

    async def send(self, kind: str, message: bytes) -> None:
        await self._write(b"event: %b\ndata: %b\n\n" % (kind.encode(), message))

    async def end(self) -> None:
        """The end of the stream. Raises `ConnectionError`, and `TimeoutError` where nobody takes it."""
        await self.taken()
        async with asyncio.timeout(self.pace.stalled_s):
            await self.response.write_eof()
        self._writer = None

    def tick(self, now: float) -> None:
        if now - self._wrote_at >= self.pace.ping_s:
            self._wrote_at = now
            self._pinging = asyncio.get_running_loop().create_task(self._ping())

    async def _ping(self) -> None:
        try:
            await self._write(PING)
        except ConnectionError:
            self.drop()

    async def _write(self, data: bytes) -> None:
        if self._writer is not None:
            await self._writer.write(data, drain=False)  # type: ignore[call-arg]  # aiohttp's own writer has it
            self._wrote_at = self._monotonic()


def unread(request: web.Request) -> int:
    """Bytes of its connection that a client has not taken, as far as the socket tells."""
    transport = request.transport
    return 0 if transport is None else transport.get_write_buffer_size()


async def taken(writer: AbstractStreamWriter, unread: Callable[[], int], stalled_s: float) -> None:
    """Wait until a client has taken most of what waits for it, however slowly. Raises `TimeoutError` where it takes
    nothing for so many seconds, `ConnectionError` where it has left."""
    before = unread()
    # A task, because a drain that is cancelled leaves aiohttp's future cancelled for every drain after it.
    drained = asyncio.ensure_future(writer.drain())
    try:
        while not (await asyncio.wait([drained], timeout=stalled_s))[0]:
            if unread() >= before:
                raise TimeoutError
            before = unread()
        await drained
    finally:
        drained.cancel()


class Muted:
    """Another channel's client, who is told nothing here but stays or leaves there."""

    def __init__(self, channel: Channel) -> None:
        self._channel, self.pace = channel, channel.pace

    async def send(self, kind: str, message: bytes) -> None:
        """It is in the log."""

    def unread(self) -> int:
        return 0

    async def taken(self) -> None:
        """Nothing was given."""

    def gone(self) -> bool:
        return self._channel.gone()

    def drop(self) -> None:
        self._channel.drop()

    def tick(self, now: float) -> None:
        self._channel.tick(now)
