"""Clients that leave at each of 200 chunks of an answer: each request ends, its upstream call too; all is booked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest_asyncio

from tests.crash.check import wrongs
from tests.crash.load import environ, openai_stream
from tests.gateway.raw import RawClient, Received, request
from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.whole import COMPATIBLE, PATIENCE_S, chat
from tests.load.crowd import QUICK, in_turns
from tests.load.log import ends, ledger
from tests.serverprocess import ServerProcess, server_process

WORDS = 197
FRAMES = [frame + b"\n\n" for frame in openai_stream(WORDS).split(b"\n\n")[:-1]]
ROLE, FINISH = 1, WORDS + 2
"""How many frames there are up to the role, and up to the finish reason, which the client sees at the end only."""


@pytest_asyncio.fixture
async def upstream() -> AsyncIterator[ScriptedServer]:
    """Sends as many frames as it is asked for tokens, and then nothing."""
    async with ScriptedServer() as server:
        server.script(
            COMPATIBLE,
            lambda asked: Script(
                b"".join(FRAMES[: asked.json()["max_tokens"]]),
                content_type="text/event-stream",
                hold=asked.json()["max_tokens"] < len(FRAMES),
            ),
        )
        yield server


async def left_after(server: ServerProcess, frames: int) -> Received:
    """What a client had got that left when it had seen so many frames; all of it where they are all there are."""
    client = await RawClient.connect(server.url)
    await client.send(request(chat(stream=True, max_tokens=frames)))
    seen = b'"role":"assistant"' if frames == ROLE else b'"content":" word%d"' % (min(frames, FINISH - 1) - 2)
    async with asyncio.timeout(PATIENCE_S):
        await client.until(seen if frames < len(FRAMES) else b"data: [DONE]")
    got = client.received
    client.leave()
    return got


async def test_leaving_at_any_chunk_ends_and_books_the_request(tmp_path: Path, upstream: ScriptedServer) -> None:
    places = range(1, len(FRAMES) + 1)
    async with server_process(tmp_path / "logs", env=environ(upstream.base_url), args=QUICK) as server:
        answers = await in_turns((lambda frames=frames: left_after(server, frames) for frames in places), at_once=50)
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(asked.left.wait() for asked in upstream.requests if asked.script.hold))
            while ends(server.data_dir)["open"]:
                await asyncio.sleep(0.05)
            report = await usage(server)
        assert await server.terminate() == 0
    assert len(upstream.requests) == len(FRAMES) == 201
    assert ends(server.data_dir) == {"request_cancelled": 200, "request_completed": 1}
    booked = [
        event for event in ledger(server.data_dir) if event["type"].startswith("generation_") and "frames" in event
    ]
    assert {event["usage_source"] for event in booked} <= {"none", "estimated", "provider"}
    assert sum(event["usage_source"] == "none" for event in booked) == 1, "only the one that had but a role"
    for column in ("tokens_input", "tokens_output"):
        assert report[column] == sum(event[column] for event in booked) > 0
    assert wrongs(server.data_dir, answers) == []


async def usage(server: ServerProcess) -> dict[str, int]:
    """The usage report's total."""
    client = await RawClient.connect(server.url)
    await client.send(b"GET /v1/usage HTTP/1.1\r\nhost: %b\r\n\r\n" % urlsplit(server.url).netloc.encode())
    total: dict[str, int] = json.loads((await client.answer()).body)["total"]
    client.leave()
    return total
