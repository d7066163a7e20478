"""The HTTP/1.1 client of the hot path: a POST on a kept-alive connection, its answer as it arrives.

httptools parses (the llhttp that Node uses), asyncio connects, resolves and does TLS; what is here is a pool and the
order of things. It is here because of what it spares: a call by aiohttp's client costs 100 µs of processor time, this
one 20. It speaks no proxy, no redirect, no cookie, no compression: an upstream call wants none of them.

A connection is used again only after an answer that was read to its end. A POST is never sent twice.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import cast
from urllib.parse import SplitResult, urlsplit

import httptools

from gateway.upstreams.upstream import UpstreamFailure

CONNECT_S = 5.0
IDLE_S = 15.0
"""A connection idle for longer is not used again: many servers close theirs soon after."""
IDLE_KEPT = 256
LINGER_S = 1.0
HEAD_LIMIT = 64 << 10
UNREAD_LIMIT = 256 << 10
"""Bytes of an answer that may wait unread before the provider is made to wait."""

Origin = tuple[str, int, bool]
"""Host, port, TLS."""


class Pool:
    """Connections to any origin. `post` gives an `Http1Answer` once its head is here."""

    def __init__(self) -> None:
        self._idle: dict[Origin, deque[_Connection]] = {}
        self._open: set[_Connection] = set()
        self._lingering: set[asyncio.Task[None]] = set()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Http1Answer:
        """Raises `UpstreamFailure`: connect_failed, connect_timeout, connection_lost, bad_response."""
        origin, target, host = place(url)
        connection = self._reusable(origin) or await self._connect(origin)
        try:
            head = await connection.send(request_head(target, host, headers, len(body)) + body)
        except BaseException:
            connection.abort()
            raise
        return Http1Answer(self, origin, connection, head)

    def give_back(self, origin: Origin, connection: _Connection) -> None:
        """Keep a connection whose answer was read to its end, if it may be kept."""
        idle = self._idle.setdefault(origin, deque())
        if not connection.reusable or len(idle) >= IDLE_KEPT:
            connection.abort()
            return
        connection.idle_since = time.monotonic()
        idle.append(connection)

    def linger(self, origin: Origin, connection: _Connection) -> None:
        """Keep a connection whose answer has said all it has to say, once its body has ended too, if that is soon."""
        task = asyncio.get_running_loop().create_task(self._end_of(origin, connection))
        self._lingering.add(task)
        task.add_done_callback(self._lingering.discard)

    async def _end_of(self, origin: Origin, connection: _Connection) -> None:
        try:
            async with asyncio.timeout(LINGER_S):
                while await connection.read():
                    pass
        except (TimeoutError, UpstreamFailure):
            connection.abort()
        else:
            self.give_back(origin, connection)

    def close(self) -> None:
        """Every connection ends."""
        for connection in list(self._open):
            connection.abort()
        self._idle.clear()

    def _reusable(self, origin: Origin) -> _Connection | None:
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.reusable and time.monotonic() - connection.idle_since < IDLE_S:
                return connection
            connection.abort()
        return None

    async def _connect(self, origin: Origin) -> _Connection:
        host, port, tls = origin
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self._open), host, port, ssl=self._tls if tls else None
                )
        except TimeoutError as e:
            raise UpstreamFailure(
                "connect_timeout", f"the provider did not accept a connection in {CONNECT_S:g} s"
            ) from e
        except (OSError, ssl.SSLError, UnicodeError) as e:
            raise UpstreamFailure("connect_failed", "the provider could not be reached") from e
        return connection

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """The system's certificates; loaded at the first call that needs them."""
        return ssl.create_default_context()


class Http1Answer:
    """An answer, its head read. `headers` have lower-case names; of repeated ones the last counts."""

    __slots__ = ("_connection", "_origin", "_pool", "headers", "status")

    def __init__(self, pool: Pool, origin: Origin, connection: _Connection, head: tuple[int, dict[str, str]]) -> None:
        self._pool, self._origin, self._connection = pool, origin, connection
        self.status, self.headers = head

    async def read(self) -> bytes:
        """As `Answer.read`. Raises `UpstreamFailure` where the connection broke before the body's end."""
        return await self._connection.read()

    async def close(self, ended: bool = False) -> None:
        """Ends the call: an answer read to its end leaves the connection for the next one, another one is cut."""
        if self._connection.finished:
            self._pool.give_back(self._origin, self._connection)
        elif ended:
            self._pool.linger(self._origin, self._connection)
        else:
            self._connection.abort()


class _Connection(asyncio.Protocol):
    """One connection and the answer that is on it. httptools calls the `on_` methods while it is fed."""

    def __init__(self, open_ones: set[_Connection]) -> None:
        self._open = open_ones
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.idle_since = 0.0
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._status = 0
        self._headers: dict[str, str] = {}
        self._head_length = 0
        self._has_head = self.finished = self._until_eof = False
        self._body: list[bytes] = []
        self._unread = 0
        self._paused = False
        self._failure: UpstreamFailure | None = None
        self._keeps = False

    @property
    def reusable(self) -> bool:
        """Open, and nothing of an answer is pending on it."""
        transport = self._transport
        return transport is not None and not transport.is_closing() and self.finished and self._keeps

    async def send(self, request: bytes) -> tuple[int, dict[str, str]]:
        """Write a request; the answer's status and headers."""
        self._begin()
        assert self._transport is not None
        self._transport.write(request)
        while not self._has_head:
            await self._news()
        return self._status, self._headers

    async def read(self) -> bytes:
        """What has arrived of the body, at least a byte; nothing at its end."""
        while not self._body:
            if self.finished:
                return b""
            await self._news()
        data = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        self._unread = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    async def _news(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, kind: str, message: str) -> None:
        if self._failure is None and not self.finished:
            self._failure = UpstreamFailure(kind, message)
        self.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not its subclasses
        self._open.add(self)

    def data_received(self, data: bytes) -> None:
        if self.finished:  # nobody asked for this: what else may come is not to be trusted
            self.abort()
            return
        if not self._has_head:
            self._head_length += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, UnicodeDecodeError):
            self._fail("bad_response", "the provider's answer is not valid HTTP")
        if not self._has_head and self._head_length > HEAD_LIMIT:
            self._fail("bad_response", "the head of the provider's answer is too long")
        if self._unread > UNREAD_LIMIT and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)
        self._keeps = False
        if self._until_eof and self._has_head and exc is None:
            self.finished = True
        elif not self._has_head:
            self._fail("connection_lost", "the provider closed the connection without an answer")
        else:
            self._fail("connection_lost", "the provider's connection broke before its answer ended")
        self._wake()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # an interim answer (RFC 9110, 15.2): the real one follows
            self._headers = {}
            return
        self._status, self._has_head = status, True
        headers = self._headers
        framed = "content-length" in headers or "chunked" in headers.get("transfer-encoding", "").lower()
        self._until_eof = not framed and status not in (204, 304)
        self._keeps = self._parser.should_keep_alive() and not self._until_eof

    def on_body(self, body: bytes) -> None:
        self._body.append(body)
        self._unread += len(body)

    def on_message_complete(self) -> None:
        if self._has_head:
            self.finished = True


@lru_cache(maxsize=1024)
def place(url: str) -> tuple[Origin, str, str]:
    """(origin, request target, Host header) of an http(s) URL. Raises `UpstreamFailure` for what is none."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = SplitResult("", "", "", "", ""), None, None
    if parts.scheme not in {"http", "https"} or not host:
        raise UpstreamFailure("connect_failed", "the provider's URL cannot be used")
    tls = parts.scheme == "https"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    shown = f"[{host}]" if ":" in host else host
    try:
        shown.encode("ascii")
    except UnicodeEncodeError:
        host = shown = host.encode("idna").decode()
    return (host, port or (443 if tls else 80), tls), target, shown if port is None else f"{shown}:{port}"


def request_head(target: str, host: str, headers: Mapping[str, str], length: int) -> bytes:
    """The bytes before the body. Raises `UpstreamFailure` for a value that would break out of its line."""
    lines = [f"POST {target} HTTP/1.1", f"host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"content-length: {length}", "", ""]
    head = "\r\n".join(lines)
    if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1 or "\0" in head:
        raise UpstreamFailure("connect_failed", "a header of the call holds a line break")
    return head.encode("latin-1", "replace")
