"""An upstream for volume, as a process of its own: thousands of streams at once, cheaper than what it is the test of.

`async with flood() as upstream:` starts it; `upstream.base_url` is where it is. The name of the model that it is asked
for says what it answers, in OpenAI's chunks:
    words-6000   so many words, as fast as they are taken
    slow-60-500  so many words, with so many milliseconds between them
    held-60      so many words, the last of them after `upstream.release()`
    endless      words for ever, as fast as they are taken
"""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import cast

import uvloop

from gateway.__main__ import raise_open_files
from tests.crash.load import openai_stream
from tests.serverprocess import ROOT

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
PIECE = 30_000
HELD = b""
"""Stands among the pieces where an answer waits."""
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_MODEL = re.compile(rb'"model":"([^"]+)"')


@lru_cache(maxsize=8)
def frames(words: int) -> tuple[bytes, ...]:
    """The frames of an answer."""
    return tuple(frame + b"\n\n" for frame in openai_stream(words).split(b"\n\n")[:-1])


def chunk(data: bytes) -> bytes:
    """A chunk of HTTP's chunked coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


held: list[Callable[[], None]] = []
"""How the answers that wait go on."""


class Upstream(asyncio.Protocol):
    """A connection: reads a request, plays the answer that its model's name asks for, and the next."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not its subclasses
        self._asked = b""
        self._pieces: Iterator[bytes] = iter(())
        self._pause_s = 0.0
        self._later: asyncio.TimerHandle | None = None
        self._full = False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._later is not None:
            self._later.cancel()

    def data_received(self, data: bytes) -> None:
        self._asked += data
        head, blank, body = self._asked.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if blank and length is not None and len(body) >= int(length[1]):
            self._asked = b""
            model = _MODEL.search(body)
            assert model is not None
            self._pieces, self._pause_s = answer(model[1].decode())
            self._transport.write(HEAD)
            self._go_on()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._later is None:
            self._go_on()

    def _go_on(self) -> None:
        self._later = None
        while not self._full and not self._transport.is_closing():
            piece = next(self._pieces, None)
            if piece is None:
                return
            if piece is HELD:
                held.append(self._go_on)
                return
            self._transport.write(piece)
            if self._pause_s:
                self._later = asyncio.get_running_loop().call_later(self._pause_s, self._go_on)
                return


def answer(model: str) -> tuple[Iterator[bytes], float]:
    """What is written, and the seconds between the pieces."""
    kind, *numbers = model.split("-")
    if kind == "words":
        return iter(all_at_once(int(numbers[0]))), 0.0
    if kind == "held":
        return until_released(int(numbers[0])), 0.0
    if kind == "slow":
        return slowly(int(numbers[0])), int(numbers[1]) / 1000
    return for_ever(), 0.0


@lru_cache(maxsize=8)
def all_at_once(words: int) -> tuple[bytes, ...]:
    """In pieces as a network would bring them."""
    stream = b"".join(frames(words))
    return (*(chunk(stream[at : at + PIECE]) for at in range(0, len(stream), PIECE)), b"0\r\n\r\n")


def slowly(words: int) -> Iterator[bytes]:
    """A frame at a time."""
    for frame in frames(words):
        yield chunk(frame)
    yield b"0\r\n\r\n"


def until_released(words: int) -> Iterator[bytes]:
    """All but the last frames, then the rest."""
    told = frames(words)
    yield chunk(b"".join(told[:-3]))
    yield HELD
    yield chunk(b"".join(told[-3:]))
    yield b"0\r\n\r\n"


def for_ever() -> Iterator[bytes]:
    """Words without an end."""
    first, *words = frames(200)[:201]
    yield chunk(first)
    piece = chunk(b"".join(words))
    while True:
        yield piece


def let_go() -> None:
    """Let the answers that wait go on."""
    while held:
        held.pop()()


async def serve() -> None:
    """Listen, say where, and go on until the starter closes our standard input."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, let_go)
    server = await loop.create_server(Upstream, "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await loop.run_in_executor(None, sys.stdin.buffer.read)


class Flood:
    """A running one."""

    def __init__(self, process: asyncio.subprocess.Process, base_url: str) -> None:
        self._process, self.base_url = process, base_url

    def release(self) -> None:
        """Let the held answers end."""
        self._process.send_signal(signal.SIGUSR1)


@asynccontextmanager
async def flood() -> AsyncIterator[Flood]:
    """Start one."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.load.flood",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Flood(process, (await process.stdout.readline()).decode().strip())
    finally:
        process.stdin.close()
        await process.wait()


if __name__ == "__main__":
    raise_open_files()
    uvloop.run(serve())
