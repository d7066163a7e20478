"""Another process holds a lock on the log: what runs waits, what is new is refused, and service resumes by itself."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from eventstore import writer
from eventstore.envelope import NEW_STREAM
from eventstore.errors import LogHeld
from eventstore.sqlite import SQLiteLog
from eventstore.writer import Writer
from gateway.server import Server
from tests.eventstore.builders import write
from tests.gateway.whole import chat, gateway

NOBODY = "http://127.0.0.1:9"
PATIENCE_S = 1.0
ECHO = chat("demo/echo")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock is a nuisance after a second, where it is after five for people."""

    class Impatient(Writer):
        def run(self) -> None:
            self._connection.execute(f"PRAGMA busy_timeout = {int(PATIENCE_S * 1000)}")
            super().run()

    monkeypatch.setattr(SQLiteLog, "writer", Impatient)
    monkeypatch.setattr(writer, "PATIENCE_MS", int(PATIENCE_S * 1000))


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    with closing(sqlite3.connect(data_dir / "events.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def health(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as client, client.get(f"{url}/health") as answer:
        return answer.status, await answer.text()


async def refused_and_resumed(data_dir: Path, kind: type[Server] = Server) -> None:
    async with gateway(data_dir, NOBODY, kind=kind) as served, asyncio.timeout(20):
        assert (await served.ask(ECHO)).status == 200
        with locked(data_dir):
            began = time.monotonic()
            answers = await asyncio.gather(*(served.ask(ECHO) for _ in range(3)), _later(served))
            assert PATIENCE_S * 0.9 < time.monotonic() - began < PATIENCE_S * 4
            for answer in [*answers, await served.ask(ECHO)]:
                assert (answer.status, answer.headers["retry-after"]) == (503, "5")
            status, said = await health(served.url)
            assert (status, "another process holds a lock" in said) == (503, True)
        while (await health(served.url))[0] == 503:  # without anybody who asks for anything else
            await asyncio.sleep(0.05)
        assert (await served.ask(ECHO)).status == 200
        assert [await served.events(answer.request_id) for answer in answers] == [[]] * 4


async def _later(served: Any) -> Any:
    """Who comes while the others wait, and nobody knows yet."""
    await asyncio.sleep(PATIENCE_S / 2)
    return await served.ask(ECHO)


async def test_new_requests_are_refused_until_it_lets_go(tmp_path: Path) -> None:
    await refused_and_resumed(tmp_path)


class Patient(Writer):
    """The bug: it waits as long as it takes, and so does everybody."""

    held = property(lambda self: False, lambda self, held: None)  # type: ignore[assignment]

    def _transact(self, insert: Any, new: bool = False) -> Any:
        return super()._transact(insert)

    def _refuse_queued(self) -> None:
        pass


async def test_who_waits_as_long_as_it_takes_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SQLiteLog, "writer", Patient)
    async with gateway(tmp_path, NOBODY) as served:
        with locked(tmp_path):
            asking = asyncio.create_task(served.ask(ECHO))
            await asyncio.sleep(PATIENCE_S * 6)
            assert not asking.done()
            assert (await health(served.url))[0] == 200
        assert (await asking).status == 200


async def test_what_runs_waits_and_is_written(tmp_path: Path) -> None:
    log = await SQLiteLog.open(tmp_path)
    await log.append(write("request-1", NEW_STREAM))
    with locked(tmp_path):
        running = log.append(write("request-1", 1))
        new = [log.append(write(f"request-new-{n}", NEW_STREAM), admit=True) for n in range(3)]
        await asyncio.sleep(PATIENCE_S / 2)
        late, more = log.append(write("request-late", NEW_STREAM), admit=True), log.append(write("request-1", 2))
        for refused in [*new, late]:
            with pytest.raises(LogHeld):
                await refused
        with pytest.raises(LogHeld):
            log.append(write("request-no", NEW_STREAM), admit=True)
        assert log.held
        assert not running.done()
    assert [(await running).last, (await more).last] == [2, 3]
    assert not log.held
    assert (await log.append(write("request-2", NEW_STREAM), admit=True)).last == 4
    await log.close()
