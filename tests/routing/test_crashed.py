"""The server is killed between the attempts of a request, and in a later one: each has its one end at the next start,
and what the client saw can be read again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from eventstore.envelope import RecordedFrames
from eventstore.reader import Reader
from eventstore.rows import FILE
from eventstore.sqlite import SQLiteLog
from gateway.exchange.recover import interrupt
from replay.cli import run as replay
from tests.clients.front import STREAM, Front, front
from tests.gateway.scripted import Script
from tests.routing.test_continuation import text

BODY: dict[str, Any] = {
    "model": "openai/gpt-4o-mini",
    "messages": [{"role": "user", "content": "hi"}],
    "max_tokens": 9,
    "stream": True,
}
NO = Script.json({"error": {"message": "no", "type": "server_error"}}, status=500)
LATER = Script.json({"error": {"message": "later", "type": "rate_limit"}}, status=429, headers={"retry-after": "30"})
ENDLESS = Script.file(STREAM["anthropic"])


@asynccontextmanager
async def asking(server: Front, **fields: Any) -> AsyncIterator[aiohttp.ClientResponse]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}/chat/completions", json={**BODY, **fields}) as answer,
    ):
        yield answer


async def data(server: Front, path: str) -> list[dict[str, Any]]:
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}/{path}") as answer:
        found: list[dict[str, Any]] = (await answer.json())["data"]
        return found


async def ended(server: Front, capsys: pytest.CaptureFixture[str]) -> tuple[list[dict[str, Any]], bytes]:
    """The server killed and started again: the events of its one request, ledger only, and its answer again."""
    await server.process.kill()
    await server.process.start()
    (request,) = await data(server, "requests")
    path = f"requests/{request['id']}"
    events = [event for event in await data(server, f"{path}/events") if event["type"] != "token_generated"]
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}/{path}/stream") as answer:
        body = await answer.read()
    await server.process.terminate()
    assert replay(["verify", "--data-dir", str(server.process.data_dir)], {}) == 0, capsys.readouterr().out
    return events, body


@asynccontextmanager
async def in_the_second_attempt(tmp_path: Path) -> AsyncIterator[tuple[Front, bytes]]:
    """A server whose second provider has said a half and goes no further, and what the client saw of it."""
    half = ENDLESS.body[: ENDLESS.body.rindex(b"event: content_block_stop")]
    async with front(tmp_path) as server:
        server.answer("openai", NO)
        server.answer("anthropic", Script(half, content_type="text/event-stream", hold=True))
        async with asking(server, fallback=["anthropic/claude-sonnet-4-5"]) as answer:
            yield server, await answer.content.readuntil(b'"content":"')


async def test_killed_in_the_second_attempt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with in_the_second_attempt(tmp_path) as (server, saw):
        events, again = await ended(server, capsys)
    assert [event["type"] for event in events][3:] == [
        "generation_failed", "fallback_selected", "generation_started", "generation_failed", "request_interrupted",
    ]  # fmt: skip
    assert again.startswith(saw)
    assert [events[i]["attempt"] for i in (2, 3, 5, 6)] == [1, 1, 2, 2]
    assert (events[6]["kind"], events[6]["frames"] > 0) == ("interrupted", True)
    assert events[-1]["cost_usd"] == events[6]["cost_usd"]


class FirstAttemptOnly(Reader):
    """The deliberate bug: it finds the frames of no attempt but the first, which here gave none."""

    def read_frames(self, generation: int, until: int, after: int = 0) -> list[RecordedFrames]:
        return []


async def test_verify_notices_an_attempt_whose_frames_were_forgotten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with in_the_second_attempt(tmp_path) as (server, _):
        await server.process.kill()
        data_dir = server.process.data_dir
        log = await SQLiteLog.open(data_dir)
        with FirstAttemptOnly(data_dir / FILE) as reader:
            (stream,) = reader.streams("request-")
            await interrupt(log, reader, stream, lambda *_: (None, None), 0)
        await log.close()
    assert replay(["verify", "--data-dir", str(data_dir)], {}) != 0
    assert stream in capsys.readouterr().out


async def test_killed_while_it_waits_to_try_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with front(tmp_path) as server:
        server.answer("openai", LATER)
        asked = asyncio.create_task(_left(server, retries=1))
        while not any(event["type"] == "retry_attempted" for event in await _so_far(server)):
            await asyncio.sleep(0.02)
        events, again = await ended(server, capsys)
        await asked
        assert len(server.asked("openai")) == 1
    assert events[-1]["type"] == "request_interrupted"
    assert [event["type"] for event in events].count("generation_started") == 2
    assert [event["type"] for event in events].count("generation_failed") == 2
    assert again == b""


async def test_killed_while_it_goes_on_with_an_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with front(tmp_path) as server:
        server.answer("openai", text("This", " is"), replace(text(" the"), framing="chunked", hold=True))
        async with asking(server, retries=1, continuation="resume") as answer:
            saw = await answer.content.readuntil(b'" the"')
            events, again = await ended(server, capsys)
    assert [event["type"] for event in events][3:] == [
        "generation_failed", "retry_attempted", "generation_started", "generation_failed", "request_interrupted",
    ]  # fmt: skip
    assert again.startswith(saw)
    assert events[-1]["cost_usd"] == pytest.approx(events[3]["cost_usd"] + events[6]["cost_usd"])


async def test_killed_while_two_calls_race(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    silent = Script(b"", content_type="text/event-stream", hold=True)
    async with front(tmp_path) as server:
        server.answer("openai", silent)
        server.answer("anthropic", silent)
        asked = asyncio.create_task(_left(server, hedge={"after_ms": 1, "model": "anthropic/claude-sonnet-4-5"}))
        while not server.asked("anthropic"):
            await asyncio.sleep(0.02)
        events, again = await ended(server, capsys)
        await asked
    assert [event["type"] for event in events][3:] == [
        "hedge_started", "generation_failed", "generation_failed", "request_interrupted",
    ]  # fmt: skip
    beside, first = events[4:6]
    assert [(e["attempt"], e["provider"], e["kind"]) for e in (beside, first)] == [
        (2, "anthropic", "interrupted"), (1, "openai", "interrupted"),
    ]  # fmt: skip
    assert (again, events[-1]["attempts"]) == (b"", 2)


async def _left(server: Front, **fields: Any) -> None:
    with pytest.raises(aiohttp.ClientError):
        async with asking(server, **fields):
            pass


async def _so_far(server: Front) -> list[dict[str, Any]]:
    """The events of the request that runs, none before it is there."""
    requests = await data(server, "requests")
    return await data(server, f"requests/{requests[0]['id']}/events") if requests else []
