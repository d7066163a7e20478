"""A hundred read all history slowly while it is written: the write-ahead log stays small, and requests are served."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from threading import Event

import pytest

from eventstore.reader import Reader
from tests.crash.load import environ
from tests.gateway.raw import RawClient, ask
from tests.gateway.whole import chat
from tests.load.crowd import QUICK, in_turns
from tests.load.flood import flood
from tests.serverprocess import COMMAND, ServerProcess, server_process

FREQUENT = (sys.executable, "-m", "tests.load.frequent_server", "frequent")
STARVED = (*FREQUENT[:-1], "starved")
"""The deliberate bug: the write-ahead log begins anew only when nobody happens to read."""
READERS = 100
PIECE, PAUSE_S = 2_048, 0.1
"""What one takes, and how long it does something else."""
TOKENS = "&types=request_received,generation_completed,token_generated"
CLIENTS = 8
WORDS, PROMPT = "words-20", 60_000
PAGE_S = 0.02
MIB = 1 << 20
SMALL, USUAL = 4 * MIB, 64 * MIB
"""What the write-ahead log may come to, where it is moved often, and of the server as it is."""


class Replay:
    """A client that reads all history, slowly. `taken` is how many bytes it has."""

    def __init__(self, client: RawClient) -> None:
        self._client, self.taken = client, 0
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def begun(cls, url: str, types: str) -> Replay:
        client = await RawClient.connect(url, limit=PIECE)
        await client.send(
            f"GET /v1/events/stream?after=0&content=1{types} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()
        )
        return cls(client)

    async def _read(self) -> None:
        while await self._client.more(PIECE):
            self.taken += len(self._client.raw)
            self._client.raw.clear()
            await asyncio.sleep(PAUSE_S)

    @property
    def reading(self) -> bool:
        return not self._task.done()

    async def leave(self) -> None:
        self._client.leave()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class Pages:
    """Another process that reads the log: a transaction a page, each of them slow, one right after the other."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir, self._left = data_dir, Event()

    def read(self) -> None:
        """From the beginning, again and again."""
        with Reader(self._data_dir) as reader:
            while not self._left.is_set():
                self.page(reader)

    def page(self, reader: Reader) -> None:
        reader._connection.execute("BEGIN")
        reader.read(0, 10)
        time.sleep(PAGE_S)
        reader._connection.execute("COMMIT")

    def leave(self) -> None:
        self._left.set()


class Holding(Pages):
    """The deliberate bug: one transaction over all pages."""

    def page(self, reader: Reader) -> None:
        if not reader._connection.in_transaction:
            reader._connection.execute("BEGIN")
        reader.read(0, 10)
        time.sleep(PAGE_S)


@asynccontextmanager
async def read_by_many(server: ServerProcess, kind: type[Pages]) -> AsyncIterator[list[Replay]]:
    """Slow readers over HTTP, and three beside the server."""
    replays = await in_turns(
        (lambda types=types: Replay.begun(server.url, types)) for types in ["", TOKENS] * (READERS // 2)
    )
    beside = [kind(server.data_dir) for _ in range(3)]
    threads = [asyncio.create_task(asyncio.to_thread(one.read)) for one in beside]
    try:
        yield replays
    finally:
        for one in beside:
            one.leave()
        await asyncio.gather(*threads, *(replay.leave() for replay in replays))


async def answered(url: str, requests: int) -> None:
    """So many streams, some at a time, each whole."""

    async def one() -> None:
        prompt = [{"role": "user", "content": os.urandom(PROMPT // 2).hex()}]
        answer = await ask(url, {**chat(f"openai-compatible/{WORDS}", stream=True), "messages": prompt})
        assert (answer.status, answer.whole) == (200, True)

    await in_turns([one] * requests, CLIENTS)


async def written_ahead(
    data_dir: Path, command: Sequence[str], requests: int, kind: type[Pages] = Pages
) -> tuple[int, list[Replay]]:
    """What the write-ahead log came to while so many requests were served, in bytes, and who read meanwhile."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(flood())
        env = environ(upstream.base_url)
        server = await stack.enter_async_context(server_process(data_dir, env=env, args=QUICK, command=command))
        await answered(server.url, CLIENTS)
        replays = await stack.enter_async_context(read_by_many(server, kind))
        await answered(server.url, requests)
        assert all(replay.reading for replay in replays)
        size = (data_dir / "events.db-wal").stat().st_size  # it never shrinks below 64 MiB
    print(f"{len(replays)} replays, {requests} requests: a write-ahead log of {size / MIB:.0f} MiB")
    return size, replays


async def test_slow_readers_do_not_let_the_write_ahead_log_grow(tmp_path: Path) -> None:
    size, replays = await written_ahead(tmp_path / "logs", FREQUENT, 80)
    assert size < SMALL
    assert all(replay.taken for replay in replays)


@pytest.mark.soak
async def test_nor_that_of_the_server_as_it_is(tmp_path: Path) -> None:
    size, replays = await written_ahead(tmp_path / "logs", COMMAND, 2_000)
    assert size < USUAL
    assert all(replay.taken for replay in replays)


async def test_one_that_holds_a_transaction_is_noticed(tmp_path: Path) -> None:
    size, _ = await written_ahead(tmp_path / "logs", FREQUENT, 80, Holding)
    assert size > SMALL


async def test_and_so_is_a_log_that_waits_for_no_reader(tmp_path: Path) -> None:
    size, _ = await written_ahead(tmp_path / "logs", STARVED, 80)
    assert size > SMALL
