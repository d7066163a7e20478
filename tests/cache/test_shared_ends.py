"""However an answer ends that several requests have, each of them is told, and each can be rendered again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from eventstore.reader import Reader
from replay.verify import verified
from tests.cache.calls import CHAT, PRICED, Caller, Coming, serving
from tests.crash.load import openai_stream
from tests.gateway.scripted import Script, ScriptedServer

KEYED = {"Idempotency-Key": "order-1"}
USE = {"x-abstractcore-cache": "use"}
BODY = openai_stream(words=20)
HALF = BODY[: BODY.index(b"word9")]


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        server.script(CHAT, Script(HALF, content_type="text/event-stream", hold=True))
        yield server


async def two(caller: Caller, headers: dict[str, str]) -> tuple[Coming, Coming]:
    """One that calls, and one that is given its answer; both have heard something."""
    first = await caller.begin(headers=headers, stream=True)
    await first.until(b"word1")
    second = await caller.begin(headers=headers, stream=True)
    await second.until(b"word1")
    return first, second


@pytest.mark.parametrize("headers", [KEYED, USE], ids=["key", "cache"])
async def test_an_answer_that_is_stopped_ends_for_all(
    tmp_path: Path, upstream: ScriptedServer, headers: dict[str, str]
) -> None:
    async with serving(tmp_path, upstream) as (served, caller):
        first, second = await two(caller, headers)
        ended = await caller.stop(first.request_id, "enough")
        await asyncio.gather(first.rest(), second.rest())
        end = await served.end_of(second.request_id)
        assert (end["type"], end["reason"], end["cost_usd"]) == ("request_cancelled", "enough", 0)
        assert ended["cost_usd"] > 0, "only the first is charged"
        assert all(b"enough" in answer.body for answer in (first, second))
        assert [await caller.again(one.request_id) for one in (first, second)] == [first.body, second.body]
        assert len(upstream.requests) == 1
    assert_sound(tmp_path)


async def test_who_is_given_an_answer_cannot_stop_it(tmp_path: Path, upstream: ScriptedServer) -> None:
    async with serving(tmp_path, upstream) as (_, caller):
        first, second = await two(caller, KEYED)
        refused = await caller.post(f"/v1/requests/{second.request_id}/stop", {})
        assert (refused.status, refused.json["error"]["code"]) == (409, "answer_shared")
        assert first.request_id in refused.json["error"]["message"]
        await caller.stop(first.request_id)
        await asyncio.gather(first.rest(), second.rest())
    assert_sound(tmp_path)


async def test_a_start_after_a_crash_need_not_read_the_whole_log(tmp_path: Path, upstream: ScriptedServer) -> None:
    async with serving(tmp_path, upstream) as (served, caller):
        first, second = await two(caller, KEYED)
        began = {one.submission.request_id: one.position for one in served.server.exchanges.open}
        assert 0 < began[first.request_id] < began[second.request_id], "what the low-water mark is made from"
        await caller.stop(first.request_id)
        await asyncio.gather(first.rest(), second.rest())


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", {"model": PRICED, "input": "Tell me.", "background": True}),
        ("/v1/generate/multi", {"models": [PRICED, PRICED], "prompt": "Tell me."}),
    ],
)
async def test_a_key_that_would_not_hold_is_refused(
    tmp_path: Path, upstream: ScriptedServer, path: str, body: dict[str, Any]
) -> None:
    async with serving(tmp_path, upstream) as (served, caller):
        refused = await caller.post(path, body, KEYED)
        assert (refused.status, refused.json["error"]["param"]) == (400, "Idempotency-Key")
        assert (await served.end_of(refused.request_id))["type"] == "request_rejected"
        assert not [asked for asked in upstream.requests if asked.method == "POST"]


def assert_sound(tmp_path: Path) -> None:
    with Reader(tmp_path / "logs") as reader:
        assert verified(reader)["listed"] == []
