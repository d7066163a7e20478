"""The load: so many connections, each asking again as soon as its answer is whole, for so many seconds.

    python -m tests.benchmarks.load http://127.0.0.1:8000 [--connections 64] [--seconds 4] [--stream]

Prints one line of JSON: answers, seconds, failed, p50_ms and p99_ms of whole answers, and first_p50_ms, to an answer's
first byte. It runs in a process of its own, so that its work is not the server's. `measure` takes wrk instead where it
is installed: a tenth of the processor time, the same figures but the last.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import uvloop

LUA = Path(__file__).with_name("wrk.lua")
MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "Tell me a short story about a lighthouse keeper and the sea."},
]
PATH = "/v1/chat/completions"
SAID = {True: b"data: [DONE]\n\n", False: b'"finish_reason":"stop"'}
"""What a good answer holds, streamed or not."""


def body(streamed: bool) -> bytes:
    """What is asked."""
    asked: dict[str, Any] = {"model": "openai/bench", "messages": MESSAGES, "temperature": 0.7, "max_tokens": 256}
    if streamed:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    return orjson.dumps(asked)


@dataclass(frozen=True)
class Load:
    """What a run came to. Times in milliseconds, to the last byte of an answer; `first_p50_ms` to its first."""

    answers: int
    seconds: float
    failed: int
    p50_ms: float
    p99_ms: float
    first_p50_ms: float | None = None

    @property
    def per_second(self) -> float:
        return self.answers / self.seconds


async def measure(
    url: str, connections: int, seconds: float, streamed: bool, wrk: bool, headers: Mapping[str, str] | None = None
) -> Load:
    """Load a server, from a process of its own. Raises `RuntimeError` where an answer was not whole, or no 200."""
    command = [*_wrk(url, connections, seconds)] if wrk else [*_own(url, connections, seconds, streamed)]
    for name, value in (headers or {}).items():
        command += ["--header", f"{name}: {value}"]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env={**os.environ, "BODY": body(streamed).decode()}
    )
    said, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the load ended with {process.returncode}")
    load = Load(**orjson.loads(said.splitlines()[-1]))
    if load.failed or not load.answers:
        raise RuntimeError(f"{load.failed} requests failed, {load.answers} were answered")
    return load


def has_wrk() -> bool:
    return shutil.which("wrk") is not None


def _wrk(url: str, connections: int, seconds: float) -> Sequence[str]:
    """It counts whole seconds."""
    return (
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{max(1, round(seconds))}s",
        "--timeout",
        "30s",
        "-s",
        str(LUA),
        url + PATH,
    )


def _own(url: str, connections: int, seconds: float, streamed: bool) -> Sequence[str]:
    options = ["--connections", f"{connections}", "--seconds", f"{seconds}", *(["--stream"] if streamed else [])]
    return (sys.executable, "-m", "tests.benchmarks.load", url, *options)


@dataclass
class Measured:
    """What all connections saw until the time was over."""

    until: float
    failed: int = 0
    whole_s: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)


class Asking(asyncio.Protocol):
    """One connection. An answer is whole at its content-length, or at the chunk of length nought."""

    def __init__(self, request: bytes, said: bytes, measured: Measured) -> None:
        self._request, self._said, self._measured = request, said, measured
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # what a stream has
        self._ask()

    def _ask(self) -> None:
        self._answer, self._length = b"", None
        self._asked = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self._answer:
            self._measured.first_s.append(time.perf_counter() - self._asked)
        self._answer += data
        if not self._whole():
            return
        now = time.perf_counter()
        self._measured.whole_s.append(now - self._asked)
        good = self._answer.startswith(b"HTTP/1.1 200 ") and self._said in self._answer
        self._measured.failed += not good
        if now < self._measured.until:
            self._ask()
        else:
            self._transport.close()

    def _whole(self) -> bool:
        head, blank, rest = self._answer.partition(b"\r\n\r\n")
        _, named, length = head.lower().partition(b"content-length: ")
        if named:
            return len(rest) >= int(length.split(b"\r\n", 1)[0])
        return bool(blank) and self._answer.endswith(b"\r\n0\r\n\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self._measured.failed += time.perf_counter() < self._measured.until
        self.over.set_result(None)


async def run(
    url: str, connections: int, seconds: float, streamed: bool, headers: Sequence[str] = ()
) -> dict[str, float]:
    """The fields of `Load`."""
    where, asked = urlsplit(url).netloc, body(streamed)
    host, _, port = where.partition(":")
    head = f"POST {PATH} HTTP/1.1\r\nhost: {where}\r\ncontent-type: application/json\r\n"
    head += "".join(f"{header}\r\n" for header in headers)
    request = f"{head}content-length: {len(asked)}\r\n\r\n".encode() + asked
    started = time.perf_counter()
    measured = Measured(started + seconds)
    loop = asyncio.get_running_loop()
    made = [
        loop.create_connection(lambda: Asking(request, SAID[streamed], measured), host, int(port))
        for _ in range(connections)
    ]
    asking = [protocol for _, protocol in await asyncio.gather(*made)]
    await asyncio.gather(*(each.over for each in asking))
    return {
        "answers": len(measured.whole_s),
        "seconds": time.perf_counter() - started,
        "failed": measured.failed,
        "p50_ms": percentile_ms(measured.whole_s, 0.50),
        "p99_ms": percentile_ms(measured.whole_s, 0.99),
        "first_p50_ms": percentile_ms(measured.first_s, 0.50),
    }


def percentile_ms(seconds: Sequence[float], share: float) -> float:
    return sorted(seconds)[min(int(len(seconds) * share), len(seconds) - 1)] * 1e3 if seconds else 0.0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--header", action="append", default=[], help="a further line of the request's head")
    asked = parser.parse_args()
    print(
        orjson.dumps(uvloop.run(run(asked.url, asked.connections, asked.seconds, asked.stream, asked.header))).decode()
    )
