"""An HTTP client as an outlet. Its states: closed, live, behind, done; and gone from any of them.

Live, bytes go to the socket as they are recorded. A client that has more than `BEHIND` bytes unread is behind: it reads
the log from where it stopped, at its own pace, and the exchange goes on without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import cast

from aiohttp import ClientConnectionResetError, web
from aiohttp.http_writer import StreamWriter

from gateway.exchange.render import SSE_HEADERS
from gateway.wire.sse import PING

BEHIND = 256 << 10
"""Bytes in a client's socket buffer above which it reads the log instead."""
STALLED_S = 30.0
"""A client that takes nothing for so long has left."""
PING_S = 15.0

FollowAnswer = Callable[[int], AsyncIterator[bytes]]
"""The answer's bytes from the log, after the first n."""


class HttpOutlet:
    """The answer to one HTTP request. `follow` is None where nothing is retained: such a client is waited for."""

    def __init__(self, request: web.Request, follow: FollowAnswer | None, monotonic: Callable[[], float]) -> None:
        self._request, self._follow, self._monotonic = request, follow, monotonic
        self._headers: dict[str, str] = {}
        self._response: web.StreamResponse | None = None
        self._writer: StreamWriter | None = None
        self._behind: asyncio.Task[None] | None = None
        self._pinging: asyncio.Task[None] | None = None
        self._sent = 0
        self._wrote_at = monotonic()
        self._left = False
        self._streams = False

    @property
    def response(self) -> web.StreamResponse:
        """What the handler returns."""
        return self._response if self._response is not None else web.Response(status=499)

    @property
    def began(self) -> bool:
        return self._writer is not None

    def streams(self) -> None:
        """The answer will be a stream: keep it alive from the start."""
        self._streams = True

    def prepare(self, headers: Mapping[str, str]) -> None:
        self._headers.update(headers)

    def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self._response = web.Response(status=status, headers={**self._headers, **headers}, body=body)

    async def release(self, data: bytes) -> None:
        if self._behind is not None or self.gone():
            return
        try:
            writer = self._writer or await self._open()
            transport = self._request.transport
            if transport is not None and transport.get_write_buffer_size() > BEHIND:
                await self._fall_behind(writer, data)
                return
            await writer.write(data, drain=False)
        except (ClientConnectionResetError, ConnectionResetError):
            self._left = True
            return
        self._sent += len(data)
        self._wrote_at = self._monotonic()

    async def finish(self, data: bytes) -> None:
        try:
            if self._behind is not None:
                await self._behind
            elif not self.gone():
                if self._writer is None:
                    await self._open()
                async with asyncio.timeout(STALLED_S):
                    await self.response.write_eof(data)
        except (ClientConnectionResetError, ConnectionResetError, TimeoutError):
            await self.abort()

    async def abort(self) -> None:
        self._left = True
        if self._behind is not None:
            self._behind.cancel()
        if self._request.transport is not None:
            self._request.transport.close()

    def gone(self) -> bool:
        transport = self._request.transport
        return self._left or transport is None or transport.is_closing()

    def tick(self, now: float) -> None:
        if self._streams and self._behind is None and now - self._wrote_at >= PING_S:
            self._wrote_at = now
            self._pinging = asyncio.get_running_loop().create_task(self._ping())

    async def _ping(self) -> None:
        try:
            writer = self._writer or await self._open()
            await writer.write(PING, drain=False)
        except (ClientConnectionResetError, ConnectionResetError):
            self._left = True

    async def _open(self) -> StreamWriter:
        self._response = web.StreamResponse(headers={**self._headers, **SSE_HEADERS})
        self._writer = cast(StreamWriter, await self._response.prepare(self._request))
        return self._writer

    async def _fall_behind(self, writer: StreamWriter, data: bytes) -> None:
        if self._follow is None:  # nothing to read again: the client is waited for, and its upstream with it
            async with asyncio.timeout(STALLED_S):
                await writer.write(data, drain=False)
                await writer.drain()
            return
        self._behind = asyncio.get_running_loop().create_task(self._catch_up(writer, self._follow(self._sent)))

    async def _catch_up(self, writer: StreamWriter, answer: AsyncIterator[bytes]) -> None:
        try:
            async for data in answer:
                async with asyncio.timeout(STALLED_S):
                    await writer.write(data, drain=False)
                    await writer.drain()
            await self.response.write_eof()
        except (ClientConnectionResetError, ConnectionResetError, TimeoutError):
            self._left = True
            if self._request.transport is not None:
                self._request.transport.abort()
