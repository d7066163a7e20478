"""What a session's turn may cost counts what was said before it: that is sent, and paid for, again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from gateway.exchange.submit import CAP_HEADER
from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.whole import gateway
from tests.sessions.talk import CHAT, Talk, answering, assistant, place, user

LONG = "word " * 8_000
CENT = 0.001
"""Enough for a short prompt, and not for 40 kB: gpt-4o-mini takes 0.15 USD for a million tokens."""


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Talk]:
    async with ScriptedServer() as upstream:
        upstream.script(CHAT, answering)
        upstream.script("GET /v1/models", Script.json({"data": [{"id": "gpt-4o-mini"}]}))
        env = {"OPENAI_API_KEY": "sk-for-the-test", "OPENAI_BASE_URL": f"{upstream.base_url}/v1"}
        async with (
            gateway(tmp_path / "logs", upstream.base_url, env=env) as running,
            aiohttp.ClientSession() as client,
        ):
            yield Talk(running.url, client)


async def test_a_prompt_that_is_too_dear_with_its_history_is_refused(here: Talk) -> None:
    session = await here.open(model="openai/gpt-4o-mini")
    assert (await session.say("short", max_cost_usd=CENT)).status == 200
    assert (await session.say(LONG)).status == 200
    refused = await session.say("short", max_cost_usd=CENT)
    assert (refused.status, refused.body["error"]["param"]) == (402, "max_cost_usd")
    path, body = f"{session.path}/chat", {"messages": [user("short")]}
    assert (await here.post(path, body, **{CAP_HEADER: str(CENT)})).status == 402
    assert (await (await session.fork(at=1)).say("short", max_cost_usd=CENT)).status == 200


async def test_what_is_cut_is_booked_with_its_history(tmp_path: Path) -> None:
    async with place(tmp_path / "logs") as here:
        session = await here.open(context_tokens=100_000)
        await session.say(LONG)
        head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        chunk = {**head, "choices": [{"index": 0, "delta": assistant("It"), "finish_reason": None}]}
        cut = b"data: " + json.dumps(chunk).encode() + b"\n\n"
        here.upstream.script(CHAT, Script(cut, content_type="text/event-stream"))
        await session.say("short", stream=True)
        assert (await session.turns())[-1]["tokens_input"] > len(LONG) // 5
