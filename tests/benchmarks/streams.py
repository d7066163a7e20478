"""Open streams, all at once: `python -m tests.benchmarks.streams URL [--connections 400] [--seconds 4] [--hold]`.

Each connection asks for a stream whose tokens say when the upstream sent them (upstream.py, `--every-ms`), and asks
again when it ends. Prints one line of JSON once all have begun and `--seconds` have passed: `streams`, `tokens`,
`failed`, and `p50_ms`, `p99_ms` from the sending of a token to its arrival here. With `--hold` the streams stay open
until standard input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import orjson
import uvloop

from gateway.__main__ import raise_open_files
from tests.benchmarks.load import PATH, body, percentile_ms

SENT = re.compile(rb" @(\d+)\"")
LONGEST = 64
"""Bytes kept of what was read, where a token may be cut in two."""
OPENED_AT_ONCE = 100
BEGUN_WITHIN_S = 300.0


@dataclass
class Seen:
    """What came to all connections. Delays are kept while `counting`."""

    counting: bool = False
    failed: int = 0
    delays_s: list[float] = field(default_factory=list)


class Stream(asyncio.Protocol):
    """One connection, asking for one stream after the other. `begun` is done at the first token."""

    def __init__(self, request: bytes, seen: Seen) -> None:
        self._request, self._seen = request, seen
        self._rest = b""
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # what a stream has
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if not self.begun.done() and data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 200"):
            self.begun.set_exception(ConnectionError(f"no stream, but {data[:1000].decode(errors='replace')}"))
            return
        data = self._rest + data
        end = 0
        for token in SENT.finditer(data):
            end = token.end()
            if not self.begun.done():
                self.begun.set_result(None)
            if self._seen.counting:
                self._seen.delays_s.append((now - int(token[1])) / 1e9)
        self._rest = data[max(end, len(data) - LONGEST) :]
        if data.endswith(b"\r\n0\r\n\r\n"):
            self._rest = b""
            self._transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        self._seen.failed += 1
        if not self.begun.done():
            self.begun.set_exception(ConnectionError("the stream never began"))


async def opened(url: str, connections: int, seen: Seen) -> list[Stream]:
    """All streams, each past its first token. Raises `ConnectionError`, `TimeoutError`."""
    where, asked = urlsplit(url).netloc, body(streamed=True)
    host, _, port = where.partition(":")
    head = f"POST {PATH} HTTP/1.1\r\nhost: {where}\r\ncontent-type: application/json\r\n"
    request = f"{head}content-length: {len(asked)}\r\n\r\n".encode() + asked
    loop = asyncio.get_running_loop()
    streams: list[Stream] = []
    async with asyncio.timeout(BEGUN_WITHIN_S):
        while len(streams) < connections:
            some = min(OPENED_AT_ONCE, connections - len(streams))
            made = (loop.create_connection(lambda: Stream(request, seen), host, int(port)) for _ in range(some))
            new = [stream for _, stream in await asyncio.gather(*made)]
            await asyncio.gather(*(stream.begun for stream in new))
            streams += new
    return streams


async def run(url: str, connections: int, seconds: float, hold: bool) -> None:
    raise_open_files()
    seen = Seen()
    streams = await opened(url, connections, seen)
    seen.counting = True
    await asyncio.sleep(seconds)
    seen.counting = False
    print(orjson.dumps(said(len(streams), seen)).decode(), flush=True)
    if hold:
        await asyncio.to_thread(sys.stdin.read)


def said(streams: int, seen: Seen) -> dict[str, float]:
    """The line."""
    delays: Sequence[float] = seen.delays_s
    figures = {"p50_ms": percentile_ms(delays, 0.50), "p99_ms": percentile_ms(delays, 0.99)}
    return {"streams": streams, "tokens": len(delays), "failed": seen.failed, **figures}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--connections", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--hold", action="store_true")
    given = parser.parse_args()
    uvloop.run(run(given.url, given.connections, given.seconds, given.hold))
