"""A turn that is sent again with its Idempotency-Key is the same turn, whatever its session has done since."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from eventstore.reader import Reader
from replay.verify import verified
from tests.cache.calls import CHAT, PRICED, Caller, serving
from tests.crash.load import openai_body, openai_stream
from tests.gateway.scripted import Script, ScriptedServer

KEYED = {"Idempotency-Key": "turn-1"}
HELD = Script(openai_stream(words=20).split(b" word9")[0], content_type="text/event-stream", hold=True)


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        server.script(CHAT, Script.json(openai_body()))
        yield server


async def opened(caller: Caller, **settings: Any) -> str:
    """The path of a new session."""
    session = await caller.post("/v1/sessions", {"model": PRICED, **settings})
    return f"/v1/sessions/{session.json['id']}"


def calls(upstream: ScriptedServer) -> int:
    """How often an answer was asked for."""
    return sum(asked.method == "POST" for asked in upstream.requests)


def said(text: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **fields}


@pytest.mark.parametrize("settings", [{}, {"agent_format": "qwen3"}])
async def test_a_turn_that_goes_on_is_joined(
    tmp_path: Path, upstream: ScriptedServer, settings: dict[str, str]
) -> None:
    """Without the key it is another turn, for which the session is busy."""
    upstream.script(CHAT, HELD)
    async with serving(tmp_path, upstream) as (_, caller):
        path = f"{await opened(caller, **settings)}/chat"
        first = await caller.begin(KEYED, path, **said("Hello", stream=True))
        await first.until(b"word1")
        assert (await caller.post(path, said("Hello", stream=True))).status == 409
        second = await caller.begin(KEYED, path, **said("Hello", stream=True))
        assert second.headers["x-abstractcore-source"] == first.request_id
        await second.until(b"word1")
        await caller.stop(first.request_id)
        await first.rest()
        await second.rest()
        assert second.body == first.body
        assert calls(upstream) == 1
    assert_sound(tmp_path)


async def test_a_turn_that_is_over_is_not_taken_again(tmp_path: Path, upstream: ScriptedServer) -> None:
    async with serving(tmp_path, upstream) as (_, caller):
        session = await opened(caller)
        first = await caller.post(f"{session}/chat", said("Hello"), KEYED)
        await caller.post(f"{session}/chat", said("And now?"))
        again = await caller.post(f"{session}/chat", said("Hello"), KEYED)
        assert (again.status, again.body) == (200, first.body)
        assert again.headers["idempotent-replayed"] == "true"
        assert "x-abstractcore-context" not in again.headers, "it is no turn"
        other = await caller.post(f"{session}/chat", said("Something else"), KEYED)
        assert (other.status, other.json["error"]["code"]) == (422, "idempotency_key_reused")
        assert (await caller.get(session)).json["turns"] == 2
    assert_sound(tmp_path)


async def test_a_summary_is_made_once(tmp_path: Path, upstream: ScriptedServer) -> None:
    async with serving(tmp_path, upstream) as (_, caller):
        session = await opened(caller)
        await caller.post(f"{session}/chat", said("Hello"))
        first, again = [await caller.post(f"{session}/compact", {"keep": 0}, KEYED) for _ in range(2)]
        assert (first.status, again.status) == (200, 200)
        assert again.body == first.body
        assert calls(upstream) == 2
    assert_sound(tmp_path)


def assert_sound(tmp_path: Path) -> None:
    with Reader(tmp_path / "logs") as reader:
        assert verified(reader)["listed"] == []
