"""Answers on their way out: a whole one is written in one piece, and the head of a stream leaves with its first bytes.

aiohttp's own responses can do more than these answers need (compression, cookies, signals, bodies that are produced),
and every one of them pays for it: a twentieth of what the gateway does for a short answer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import SERVER_SOFTWARE
from multidict import CIMultiDict


class _Answer(web.StreamResponse):
    """An answer that has all its headers, for a connection that stays open. It says that it is `prepared`, so that
    nobody adds any."""

    @property
    def prepared(self) -> bool:
        return True

    @property
    def keep_alive(self) -> bool:
        return True


class WholeAnswer(_Answer):
    """An answer in one piece."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(status=status)
        self._out: bytes | None = _head(status, self.reason, headers, len(body)) + body

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write it, once. A client that has left is told nothing."""
        out, self._out = self._out, None
        transport = request.transport
        if out is None or transport is None or transport.is_closing():
            return None
        transport.write(out)
        if transport.get_write_buffer_size():  # a slow client is waited for, as everywhere; see `Connection._look`
            await request.writer.drain()
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """There is nothing left to write."""


class StreamedAnswer(_Answer):
    """A chunked answer of status 200. The head waits for the first bytes, and is then one write with them."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__()
        self._told = headers
        self._writer: AbstractStreamWriter | None = None

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """The writer for what follows. Whoever asks first writes at once."""
        if self._writer is None:
            self._writer = request.writer
            self._writer.enable_chunking()
            told = {**self._told, **_ours(int(time.time())), "transfer-encoding": "chunked"}
            await self._writer.write_headers("HTTP/1.1 200 OK", CIMultiDict(told))
        return self._writer

    async def write_eof(self, data: bytes = b"") -> None:
        """The last bytes and the end. Raises `ConnectionError`."""
        if self._writer is not None:
            await self._writer.write_eof(data)


def fits(request: web.BaseRequest, headers: Mapping[str, str]) -> bool:
    """Whether an answer to this request with these headers can go out so. Others take aiohttp's way."""
    if request.version != HttpVersion11 or not request.keep_alive or request.method != "POST":
        return False
    values = "".join(headers.values())
    return values.isascii() and "\n" not in values and "\r" not in values


def _head(status: int, reason: str, headers: Mapping[str, str], length: int) -> bytes:
    """Status line and headers: RFC 9112, sections 4 and 5."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    shared = _lines(int(time.time()))
    return f"HTTP/1.1 {status} {reason}\r\n{lines}{shared}content-length: {length}\r\n\r\n".encode("ascii")


@lru_cache(maxsize=2)
def _ours(second: int) -> Mapping[str, str]:
    """The headers that all answers of one second share."""
    return {"date": formatdate(second, usegmt=True), "server": SERVER_SOFTWARE}


@lru_cache(maxsize=2)
def _lines(second: int) -> str:
    return "".join([f"{name}: {value}\r\n" for name, value in _ours(second).items()])
