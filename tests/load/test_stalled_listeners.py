"""A hundred who ask for the feed and do not read it, and one who does: it hears everything, and they cost little."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.gateway.raw import RawClient, ask
from tests.gateway.whole import PATIENCE_S, chat
from tests.load.crowd import QUICK, connections, cramped, in_turns, resident_kib
from tests.serverprocess import COMMAND, ServerProcess, server_process

LISTENERS, FEW = 100, 20
TOLD = b"\nevent: request_completed\n"
HISTORY, PROMPT = 20, "word " * 20_000
"""Requests before anybody listens, each in an event of 100 KB: more than a listener has room for."""
KEEPS_KIB = 1_000
"""What one who does not read may take: an event of the history as it was read, and as it is sent."""


def feeds(kind: str = "cursors", stalled_s: float = 100.0) -> tuple[str, ...]:
    """The command of such a server; see `tests/load/feed_server.py`."""
    return (sys.executable, "-m", "tests.load.feed_server", kind, str(stalled_s))


async def listening(url: str, query: str) -> RawClient:
    """A client whom the server listens to, and who has read nothing else."""
    client = await cramped(url)
    await client.send(f"GET /v1/events/stream?{query} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
    await client.until(b": ping\n")
    return client


async def answered(server: ServerProcess, text: str = "Hello.") -> None:
    answer = await ask(server.url, {**chat("demo/echo"), "messages": [{"role": "user", "content": text}]})
    assert answer.status == 200


@dataclass
class Crowd:
    """A server, those who take nothing of its feed any more, one who does, and the memory that it had without them."""

    server: ServerProcess
    stalled: Sequence[RawClient]
    live: RawClient
    before_kib: int

    async def hears(self, requests: int) -> None:
        """The live one hears of each request before the next is asked."""
        for _ in range(requests):
            await answered(self.server)
            await self.live.until(TOLD)
            self.live.raw.clear()

    def each_kib(self) -> float:
        """What each of those who do not read took at the worst."""
        each = (resident_kib(self.server, "VmHWM") - self.before_kib) / len(self.stalled)
        print(f"{len(self.stalled)} stalled listeners: {each:.0f} KiB each")
        return each


@asynccontextmanager
async def crowd(data_dir: Path, command: Sequence[str], listeners: int = LISTENERS) -> AsyncIterator[Crowd]:
    """One of them, for as long as the block lasts."""
    async with server_process(data_dir, args=QUICK, command=command) as server, asyncio.timeout(8 * PATIENCE_S):
        for _ in range(HISTORY):
            await answered(server, PROMPT)
        live = await listening(server.url, "")
        before = resident_kib(server)
        stalled = await in_turns((lambda: listening(server.url, "after=0&content=1")) for _ in range(listeners))
        yield Crowd(server, stalled, live, before)


async def gone(there: Crowd) -> float:
    """How long it took until all who do not read were dropped. The live one hears on meanwhile, and afterwards."""
    began = time.monotonic()
    while connections(there.server) > 1:
        await there.hears(1)
        await asyncio.sleep(0.05)
    await there.hears(3)
    return time.monotonic() - began


async def test_who_reads_hears_everything_and_who_does_not_costs_little(tmp_path: Path) -> None:
    async with crowd(tmp_path / "logs", feeds()) as there:
        await there.hears(20)
        assert connections(there.server) == LISTENERS + 1
        assert there.each_kib() < KEEPS_KIB


async def test_who_takes_nothing_is_dropped_and_nobody_else(tmp_path: Path) -> None:
    async with crowd(tmp_path / "logs", feeds(stalled_s=1.0), FEW) as there:
        await gone(there)


@pytest.mark.soak
async def test_after_half_a_minute_by_the_server_as_it_is(tmp_path: Path) -> None:
    async with crowd(tmp_path / "logs", COMMAND) as there:
        assert await gone(there) > 20


async def test_a_feed_that_keeps_what_is_not_read_is_caught(tmp_path: Path) -> None:
    async with crowd(tmp_path / "logs", feeds("hoarding"), FEW) as there:
        await there.hears(20)
        assert there.each_kib() > KEEPS_KIB


async def test_a_feed_that_waits_for_everybody_is_caught(tmp_path: Path) -> None:
    async with crowd(tmp_path / "logs", feeds("waiting"), FEW) as there:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await there.hears(20)
