"""One connection of the hot path's client, and the answer that is on it. httptools parses: the llhttp that Node uses.

An answer ends where its framing says so; what comes after that, or was never asked for, is nobody's answer, and the
connection that brought it is not used again.
"""

from __future__ import annotations

import asyncio
import select
from typing import cast

import httptools

from gateway.upstreams.upstream import UpstreamFailure

BARE_LIMIT = 64 << 10
"""Bytes that may come in a row without any of a body: the head, trailers, the extensions of chunks."""
UNREAD_LIMIT = 64 << 10
"""Bytes of an answer that may wait unread before the provider is made to wait. One read of the socket comes on top."""
SOCKET_BUFFER = bytearray(64 << 10)
"""Where every connection's bytes are read, to be parsed at once: nothing stays in it, so one serves all of a loop."""
READ_MOST = 64 << 10
"""Bytes of an answer, in whole pieces, that are taken at a time: what becomes of them is a multiple of it."""
PIECE_COST = 48
"""What a piece of a body takes in memory beside its bytes: chunks can be tiny."""


class SecondAnswer(Exception):
    """Another answer began where only one was asked for."""


class Connection(asyncio.BufferedProtocol):
    """One connection. `send`, then `read` until it gives nothing; httptools calls the `on_` methods while it is fed.

    `finished`: no answer is awaited or its last byte has arrived; `idle_since` is its pool's note.
    """

    def __init__(self, open_ones: set[Connection]) -> None:
        self._open = open_ones
        self._transport: asyncio.Transport
        self._readable = select.poll()
        self._waiter: asyncio.Future[None] | None = None
        self.idle_since = 0.0
        self._begin()
        self.finished = True

    def _begin(self) -> None:
        self._body: list[bytes] = []
        self.on_body = self._body.append  # of no method of ours: a stream has a chunk for every token
        self._parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers: dict[str, str] = {}
        self._has_head = self.finished = self._until_eof = self._keeps = self._paused = False
        self._bare = self._unread = 0
        self._failure: UpstreamFailure | None = None

    @property
    def reusable(self) -> bool:
        """Open, its request sent and its answer here to the last byte."""
        transport = self._transport
        done = self.finished and self._keeps and not self._paused
        return done and not transport.is_closing() and not transport.get_write_buffer_size()

    @property
    def quiet(self) -> bool:
        """Nothing has arrived that the event loop has yet to see: neither the server's end nor unasked bytes."""
        return not self._readable.poll(0)

    async def send(self, head: bytes, body: bytes) -> None:
        """Write a request; `status` and `headers` are there when this returns. Raises `UpstreamFailure`."""
        if self._transport.is_closing():  # nobody would say so again
            raise UpstreamFailure("connection_lost", "the provider closed the connection at once")
        self._begin()
        self._transport.writelines((head, body))
        while not self._has_head:
            await self._news()

    async def read(self) -> bytes:
        """What has arrived of the body, at least a byte, about `READ_MOST` at most; nothing at its end. Raises
        `UpstreamFailure`."""
        while not self._body:
            if self.finished:
                return b""
            await self._news()
        pieces = self._body.copy()
        self._body.clear()
        if self._unread > READ_MOST:
            self._body += _beyond(pieces)
        self._unread = sum(map(len, self._body)) + PIECE_COST * len(self._body)
        if self._paused and self._unread <= UNREAD_LIMIT:
            self._paused = False
            self._transport.resume_reading()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def abort(self) -> None:
        """Close at once."""
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
        """End the connection; its answer has failed unless it was whole before."""
        if self._failure is None and not self.finished:
            self._failure = UpstreamFailure(kind, message)
        self.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not its subclasses
        self._readable.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self._open.add(self)

    def get_buffer(self, sizehint: int) -> bytearray:
        return SOCKET_BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(memoryview(SOCKET_BUFFER)[:nbytes]))

    def data_received(self, data: bytes) -> None:
        before = len(self._body)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail("bad_response", "the provider's answer is not valid HTTP")
        news = self._body[before:]
        self._unread += sum(map(len, news)) + PIECE_COST * len(news)
        self._bare = 0 if news else self._bare + len(data)
        if self._bare > BARE_LIMIT:
            self._fail("bad_response", "the head or the trailer of the provider's answer is too long")
        elif self._unread > UNREAD_LIMIT and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """An orderly end. A connection that breaks, or that we end, does not come here."""
        if self._until_eof:
            self.finished = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)
        what = "broke before its answer ended" if self._has_head else "ended without an answer"
        self._fail("connection_lost", f"the provider's connection {what}")
        del self._parser  # it holds this connection: a cycle that only the collector would find
        self._wake()

    def on_message_begin(self) -> None:
        if self.finished:  # nobody asked for it: the parser stops here, and so does the connection
            raise SecondAnswer

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._has_head:  # a trailer says nothing that the head should have said
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1").rstrip()

    def on_headers_complete(self) -> None:
        status, headers = self._parser.get_status_code(), self.headers
        if status < 200:  # an interim answer (RFC 9110, 15.2): the real one follows
            headers.clear()
            return
        self.status, self._has_head = status, True
        chunked = headers.get("transfer-encoding", "").lower().endswith("chunked")
        self._until_eof = not chunked and "content-length" not in headers
        self._keeps = self._parser.should_keep_alive()

    def on_message_complete(self) -> None:
        self.finished = self._has_head


def _beyond(pieces: list[bytes]) -> list[bytes]:
    """Takes away the pieces behind the one with which `READ_MOST` is reached; gives them."""
    length = 0
    for count, piece in enumerate(pieces, 1):
        length += len(piece)
        if length >= READ_MOST:
            beyond = pieces[count:]
            del pieces[count:]
            return beyond
    return []
