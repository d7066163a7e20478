"""An HTTP client as an outlet. Its states: closed, live, behind, done; and gone from any of them.

Live, bytes go to the socket as they are recorded. A client that has not read what came, and would have more than
`BEHIND` bytes unread, is behind: it reads the log from where it stopped, at its own pace, and the exchange goes on
without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import cast

from aiohttp import web
from aiohttp.http_writer import StreamWriter

from gateway.api.channels import taken, unread
from gateway.api.http_answers import StreamedAnswer, WholeAnswer, fits
from gateway.edge import POSITION_HEADER
from gateway.exchange.render import SSE_HEADERS
from gateway.exchange.resume import Cut
from gateway.wire.sse import PING


@dataclass(frozen=True, slots=True)
class Pace:
    """How far a client may be behind, in bytes of its socket buffer, before it reads the log instead; after how many
    seconds in which it takes nothing it has left; and how many seconds a stream may be silent before a ping."""

    behind: int = 256 << 10
    stalled_s: float = 30.0
    ping_s: float = 15.0


USUAL = Pace()
AT_ONCE = 32 << 10
"""Bytes in a socket's buffer for which nobody waits: under asyncio's high-water mark (64 KiB)."""

FollowAnswer = Callable[[int], AsyncIterator[bytes]]
"""The answer's bytes from the log, after the first n."""


class HttpOutlet:
    """The answer to one HTTP request. `follow` is None where nothing is retained: such a client is waited for.
    `over` is called when the end of a stream is recorded, which its client may hear much later."""

    def __init__(
        self,
        request: web.Request,
        follow: FollowAnswer | None,
        monotonic: Callable[[], float],
        pace: Pace = USUAL,
        over: Callable[[], None] | None = None,
    ) -> None:
        self._request, self._follow, self._monotonic, self._pace = request, follow, monotonic, pace
        self._over = over
        self._headers: dict[str, str] = {}
        self._response: web.StreamResponse | None = None
        self._writer: StreamWriter | None = None
        self._behind: asyncio.Task[None] | None = None
        self._pinging: asyncio.Task[None] | None = None
        self._sent = 0
        self._wrote_at = monotonic()
        self._left = False
        self._streams, self._ping_with = False, PING

    @property
    def response(self) -> web.StreamResponse:
        """What the handler returns."""
        return self._response if self._response is not None else web.Response(status=499)

    @property
    def began(self) -> bool:
        return self._writer is not None

    def streams(self, ping: bytes) -> None:
        """The answer will be a stream: keep it alive from the start."""
        self._streams, self._ping_with = True, ping

    def prepare(self, headers: Mapping[str, str]) -> None:
        for name, said in headers.items():
            if said:
                self._headers[name] = said
            else:
                self._headers.pop(name, None)

    def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        told = {**self._headers, **headers}
        kind = WholeAnswer if POSITION_HEADER in told and fits(self._request, told) else web.Response
        self._response = kind(status=status, headers=told, body=body)

    async def release(self, data: bytes) -> None:
        if self._behind is not None or self.gone():
            return
        try:
            writer = self._writer or await self._open()
            unread = self._unread()
            if unread and unread + len(data) > self._pace.behind:
                await self._fall_behind(writer, data)
                return
            await writer.write(data, drain=False)
        except (ConnectionError, TimeoutError):
            self._left = True
            return
        self._sent += len(data)
        self._wrote_at = self._monotonic()

    def ending(self) -> None:
        self._streams = False

    async def finish(self, data: bytes) -> None:
        if self._over is not None:
            self._over()
        try:
            if self._behind is not None:
                await self._behind
            elif not self.gone():
                writer = self._writer or await self._open()
                if self._unread():
                    await self._taken(writer)
                if self._unread() + len(data) <= AT_ONCE:
                    await self.response.write_eof(data)
                    return
                async with asyncio.timeout(self._pace.stalled_s):
                    await self.response.write_eof(data)
        except (ConnectionError, TimeoutError):
            self._drop()

    async def abort(self) -> None:
        if self._behind is not None:
            self._behind.cancel()
        self._close()

    def gone(self) -> bool:
        transport = self._request.transport
        return self._left or transport is None or transport.is_closing()

    def tick(self, now: float) -> None:
        if self._streams and self._behind is None and now - self._wrote_at >= self._pace.ping_s:
            self._wrote_at = now
            self._pinging = asyncio.get_running_loop().create_task(self._ping())

    async def _ping(self) -> None:
        if not self._streams or self._behind is not None:  # since the tick, the end has come
            return
        try:
            writer = self._writer or await self._open()
            await writer.write(self._ping_with, drain=False)
        except ConnectionError:
            self._left = True

    async def _open(self) -> StreamWriter:
        told = {**self._headers, **SSE_HEADERS}
        self._response = StreamedAnswer(told) if fits(self._request, told) else web.StreamResponse(headers=told)
        self._writer = cast(StreamWriter, await self._response.prepare(self._request))
        return self._writer

    def _unread(self) -> int:
        """See `unread`."""
        return unread(self._request)

    async def _fall_behind(self, writer: StreamWriter, data: bytes) -> None:
        if self._follow is None:  # nothing to read again: the client is waited for, and its upstream with it
            await writer.write(data, drain=False)
            await self._taken(writer)
            return
        writer.send_headers()  # where these would have been its first bytes: an answer that has begun is never another
        self._behind = asyncio.get_running_loop().create_task(self._catch_up(writer, self._follow(self._sent)))

    async def _catch_up(self, writer: StreamWriter, answer: AsyncIterator[bytes]) -> None:
        try:
            await self._taken(writer)
            async for data in answer:
                await writer.write(data, drain=False)
                await self._taken(writer)
            await self.response.write_eof()
        except Cut:
            self._close()
        except (ConnectionError, TimeoutError):
            self._drop()

    async def _taken(self, writer: StreamWriter) -> None:
        """See `taken`."""
        await taken(writer, self._unread, self._pace.stalled_s)

    def _close(self) -> None:
        """End the connection behind what waits for the client."""
        self._left = True
        if self._request.transport is not None:
            self._request.transport.close()

    def _drop(self) -> None:
        """End the connection now, with what the client has not taken."""
        self._left = True
        if self._request.transport is not None:
            self._request.transport.abort()
