"""A client that is only a socket: it keeps every byte that reached it, and says what they come to so far."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

_COMMENT = re.compile(rb"(?m)^:[^\n]*\n\n")


@dataclass
class Received:
    """An answer as far as it came. `body` is without its chunks' framing; `whole` says that its framing ended."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False

    @property
    def request_id(self) -> str:
        return self.headers["x-request-id"]

    @property
    def recorded(self) -> bytes:
        """What the log knows of: the body without the pings, which are comments, and without a ping's beginning."""
        plain = _COMMENT.sub(b"", self.body)
        last = plain.rpartition(b"\n")[2]
        return plain[: len(plain) - len(last)] if last.startswith(b":") else plain

    def json(self) -> Any:
        return json.loads(self.body)


def received(raw: bytes) -> Received:
    """What these bytes of a connection mean, as far as they go."""
    head, blank, rest = raw.partition(b"\r\n\r\n")
    if not blank:
        return Received()
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body, whole = unchunked(rest)
    else:
        length = int(headers.get("content-length", 0))
        body, whole = rest[:length], len(rest) >= length
    return Received(int(first.split(" ")[1]), headers, body, whole)


def unchunked(data: bytes) -> tuple[bytes, bool]:
    """The content of chunks, the last one perhaps in part, and whether the end is there."""
    body: list[bytes] = []
    while True:
        size, line_end, data = data.partition(b"\r\n")
        if not line_end:
            return b"".join(body), False
        length = int(size, 16)
        if not length:
            return b"".join(body), data.startswith(b"\r\n")
        body.append(data[:length])
        data = data[length + 2 :]


def request(body: Any, path: str = "/v1/chat/completions", headers: dict[str, str] | None = None) -> bytes:
    """The bytes of a POST: of a value as JSON, or of a body that is bytes already."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"host": "localhost", "content-type": "application/json", "content-length": str(len(data))}
    lines |= headers or {}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + data


class RawClient:
    """One connection. `raw` grows while `read` runs."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.raw = bytearray()

    @classmethod
    async def connect(cls, url: str, **options: Any) -> RawClient:
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port, **options))

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def more(self, most: int = 65536) -> bool:
        """Wait for bytes; False at the end of the connection, however it came."""
        try:
            data = await self._reader.read(most)
        except ConnectionError:
            return False
        self.raw += data
        return bool(data)

    async def until(self, word: bytes) -> None:
        """Read until the word came. Raises `EOFError` where the connection ends before."""
        while word not in self.raw:
            if not await self.more():
                raise EOFError(bytes(self.raw[-500:]))

    async def answer(self) -> Received:
        """Read to the end of the answer, or of the connection."""
        while not self.received.whole and await self.more():
            pass
        return self.received

    @property
    def received(self) -> Received:
        return received(bytes(self.raw))

    def leave(self) -> None:
        """Close the connection now, with whatever is unread."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """The same."""
        self.leave()


async def ask(url: str, body: Any, path: str = "/v1/chat/completions", **headers: str) -> Received:
    """One request on a connection of its own, and its whole answer."""
    client = await RawClient.connect(url)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        await client.send(request(body, path, named))
        return await client.answer()
    finally:
        client.leave()
