"""GET /v1/events/stream: the log as it grows, as server-sent events.

A listener reads the log by its own cursor: nothing is queued for it, so that a slow one costs nothing but its own
delay, and one that comes back continues exactly where it was (`Last-Event-ID`, `?after=`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import orjson
from aiohttp import web

from eventstore.catalogue import REGISTRY
from eventstore.chain import Chains
from eventstore.envelope import Recorded, RecordedEvent, RecordedFrames
from eventstore.errors import LogCorrupt
from eventstore.subscription import Subscription
from gateway.api.answers import services
from gateway.api.generated import TokenReader
from gateway.edge import mark
from gateway.errors import InvalidRequest, damaged, openai_error_body
from gateway.exchange.ids import stream_of
from gateway.services import Handler, Services
from projections.feed import PING, Cursor, Feed, Filter

CLOSING = web.AppKey("feeds_closing", asyncio.Event)
"""Set when the server stops, so that listeners do not hold it up. See `close_feeds`."""
BATCH = 200
PIECE = 64 << 10
"""Bytes of events that are handed over at once, where one is not larger."""
HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
BEGINNING = "0"
"""The cursor, in `?after=`, of those who want the whole log."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds: between pings of a quiet feed, until a listener that takes nothing has left, between looks whether it is
    still there."""

    ping_s: float = 15.0
    stalled_s: float = 30.0
    look_s: float = 0.5


def event_stream(pace: Pace = Pace()) -> Handler:
    """The handler. `?types=a,b` (`token_generated` for tokens), `?request_id=`, `?session_id=`, `?content=1` choose;
    without a cursor it begins now."""

    async def stream_events(request: web.Request) -> web.StreamResponse:
        given = services(request)
        wanted = wanted_of(request)
        cursor = await start_of(request, given)
        response = web.StreamResponse(headers=HEADERS)
        await mark(request, response)
        await response.prepare(request)
        await Listener(_Sse(request, response), given, wanted, cursor, pace).serve()
        return response

    return stream_events


async def close_feeds(app: web.Application) -> None:
    """For `app.on_shutdown`: every feed ends within half a second."""
    app[CLOSING].set()


def wanted_of(request: web.Request) -> Filter:
    """What the listener asked for. Raises `InvalidRequest` for a type that does not exist."""
    query = request.query
    types = frozenset(name for name in query.get("types", "").split(",") if name) or None
    check_types(types)
    return Filter(
        types=types,
        request_id=query.get("request_id") or None,
        session_id=query.get("session_id") or None,
        content=query.get("content", "").lower() in {"1", "true", "yes"},
    )


def check_types(types: frozenset[str] | None) -> None:
    """Raises `InvalidRequest` for a type that does not exist."""
    if unknown := sorted((types or frozenset()) - REGISTRY.keys()):
        raise InvalidRequest(f"There is no event type {unknown[0][:64]!r}.", param="types")


async def start_of(request: web.Request, given: Services) -> Cursor:
    """Where to begin: `Last-Event-ID` (a browser that comes back), else `?after=`, else now. See `start_at`."""
    return await start_at(request.headers.get("Last-Event-ID") or request.query.get("after"), given)


async def start_at(text: str | None, given: Services) -> Cursor:
    """Behind the cursor that a listener was given; now, where it was given none.

    Raises `InvalidRequest` for what is no cursor, or one of another log.
    """
    if not text:
        return Cursor(await given.log.head())
    if text == BEGINNING:
        return Cursor(0)
    try:
        cursor = Cursor.decode(text)
    except ValueError as error:
        raise InvalidRequest("This is not a cursor of the feed.", param="after", code="invalid_cursor") from error
    if not await _is_of(cursor, given):
        raise InvalidRequest("This cursor is of another log.", param="after", code="unknown_cursor")
    return cursor


async def _is_of(cursor: Cursor, given: Services) -> bool:
    if cursor.position > await given.log.head():
        return False
    if not cursor.origin or cursor.position <= given.log.dropped:  # nobody knows any more what was there
        return True
    (row,) = await given.log.read(cursor.position - 1, 1) or (None,)
    return isinstance(row, RecordedEvent) and (row.origin, row.oseq) == (cursor.origin, cursor.oseq)


class Sink(Protocol):
    """Where a feed goes."""

    async def write(self, data: bytes) -> None:
        """Hand over whole server-sent events, and return when they are taken. Raises `ConnectionError`."""

    def over(self) -> bool:
        """Whether the listener has left, or the server stops."""

    def drop(self) -> None:
        """End the connection of a listener that takes nothing."""


class _Sse:
    """The answer to a GET request as a sink."""

    def __init__(self, request: web.Request, response: web.StreamResponse) -> None:
        self._request, self._response = request, response

    async def write(self, data: bytes) -> None:
        await self._response.write(data)

    def over(self) -> bool:
        transport = self._request.transport
        closing = self._request.app.get(CLOSING)
        return transport is None or transport.is_closing() or (closing is not None and closing.is_set())

    def drop(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()


class Listener:
    """One open feed: the cursor is all that it keeps."""

    def __init__(self, sink: Sink, given: Services, wanted: Filter, cursor: Cursor, pace: Pace) -> None:
        self._sink, self._given, self._pace = sink, given, pace
        self._wanted, self._skip = wanted, cursor
        self._sessions: dict[str, str | None] = {}
        self._feed = Feed(wanted, self._sessions.get)
        self._tokens = TokenReader(given.log)
        self._last_write = given.monotonic()
        self._history = 0
        self._chains = Chains()

    async def serve(self) -> None:
        """Until the listener leaves or stalls, the server stops, or the log is damaged."""
        try:
            self._history = await self._given.log.head()
            await self._write(PING)  # sends the head, so that the listener knows that it listens
            async for rows in self._batches():
                if not await self._tell(rows):
                    await self._ping_if_quiet()
        except TimeoutError:
            self._sink.drop()
        except ConnectionError:
            pass  # it left
        except LogCorrupt as error:
            logger.error("nothing is served from where the log is damaged: %s", error)
            await self._write(b"event: error\ndata: %b\n\n" % orjson.dumps(openai_error_body(damaged().error())))

    async def _tell(self, rows: list[Recorded]) -> bool:
        """What these rows are for the listener, in pieces that it takes one after the other: tokens weigh many times
        what their rows do. Returns whether that was anything."""
        told, left = False, iter(rows)
        while piece := await self._piece(left):
            await self._write(piece)
            told = True
        return told

    async def _piece(self, rows: Iterator[Recorded]) -> bytes:
        """What the next of these rows are, about `PIECE` bytes. One feed at a time, and a turn of the loop to each:
        a hundred that catch up cost everybody else no more than one does."""
        shown, size = list[bytes](), 0
        async with self._given.telling:
            await asyncio.sleep(0)
            for row in rows:
                for frame in await self._shown(row):
                    shown.append(frame)
                    size += len(frame)
                if size >= PIECE:
                    break
        return b"".join(shown)

    async def _batches(self) -> AsyncIterator[list[Recorded]]:
        """What the log has for the listener, as it is asked for, with pings while there is nothing."""
        batches = Subscription(self._given.log, self._skip.after, frames=self._wanted.tokens, batch=BATCH)
        step = asyncio.ensure_future(anext(batches, None))
        try:
            while not self._sink.over():
                await asyncio.wait({step}, timeout=self._pace.look_s)
                if step.done():
                    if (rows := step.result()) is None:
                        return
                    yield rows
                    step = asyncio.ensure_future(anext(batches, None))
                await self._ping_if_quiet()
        finally:
            step.cancel()

    async def _shown(self, row: Recorded) -> Iterable[bytes]:
        if isinstance(row, RecordedFrames):
            return await self._shown_tokens(row)
        if row.position <= self._history:
            self._check(row)
        if self._wanted.session_id is not None and row.type != "request_received":
            await self._learn_session(row.body.get("request_id"))
        frame = self._feed.offer(row)
        return () if frame is None else (frame,)

    def _check(self, event: RecordedEvent) -> None:
        """What was there before the listener was, against itself and its chain. Raises `LogCorrupt`."""
        if what := self._chains.unsound(event):
            raise LogCorrupt(event.position, what)

    async def _shown_tokens(self, row: RecordedFrames) -> list[bytes]:
        shown = []
        for body in await self._tokens.objects(row):
            cursor = Cursor(row.position, body["frame"])
            if cursor.position == self._skip.position and cursor.frame <= self._skip.frame:
                continue
            if self._wanted.session_id is not None:
                await self._learn_session(body["request_id"])
            if (frame := self._feed.offer_token(body, cursor)) is not None:
                shown.append(frame)
        return shown

    async def _learn_session(self, request_id: str | None) -> None:
        """Look up the session of a request that began before this feed did; the feed itself learns the others'."""
        if request_id is None or request_id in self._sessions:
            return
        if len(self._sessions) >= BATCH:
            self._sessions.clear()
        stream = await self._given.log.read_stream(stream_of(request_id))
        self._sessions[request_id] = stream[0].body.get("session_id") if stream else None

    async def _ping_if_quiet(self) -> None:
        if self._given.monotonic() - self._last_write >= self._pace.ping_s:
            await self._write(PING)

    async def _write(self, data: bytes) -> None:
        """Hand over and wait until it is taken. Raises `TimeoutError` for a stalled listener."""
        async with asyncio.timeout(self._pace.stalled_s):
            await self._sink.write(data)
        self._last_write = self._given.monotonic()
