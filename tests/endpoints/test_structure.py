"""A structured answer from a provider that has none: asked for again until it is right, and all of it counted."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from replay.cli import run as replay
from tests.clients.front import Front, front
from tests.gateway.scripted import Script

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = "anthropic/claude-sonnet-4-5"
ASKED: Any = {"model": MODEL, "messages": [{"role": "user", "content": "Who?"}], "max_tokens": 50}
OBJECT: Any = {"response_format": {"type": "json_object"}}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    async with front(tmp_path_factory.mktemp("structure")) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def client(server: Front) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=server.url, api_key="not-needed", max_retries=0) as made:
        yield made


def whole(text: str) -> Script:
    return Script.json(
        {
            "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5",
            "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "stop_sequence": None,
            "usage": {"input_tokens": 10, "output_tokens": 4},
        }
    )  # fmt: skip


def streamed(text: str) -> Script:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": []}
    usage = {"input_tokens": 10, "output_tokens": 1}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**message, "stop_reason": None, "usage": usage}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": c}} for c in text),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}},
        {"type": "message_stop"},
    ]
    body = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    return Script(body.encode(), content_type="text/event-stream")


async def get(server: Front, path: str) -> bytes:
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}{path}") as answer:
        assert answer.status == 200
        return await answer.read()


async def test_what_is_wrong_is_told_and_asked_for_again(server: Front, client: AsyncOpenAI) -> None:
    server.answer("anthropic", whole("Ada, 36"), whole("[36]"), whole('```json\n{"name": "Ada"}\n```'))
    raw = await client.chat.completions.with_raw_response.create(**ASKED, **OBJECT)
    answer = raw.parse()
    assert answer.choices[0].message.content == '{"name": "Ada"}'
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (30, 12)
    last = server.asked("anthropic")[-1].json()
    assert "JSON object" in str(last["system"])
    assert [m["role"] for m in last["messages"]] == ["user", "assistant", "user", "assistant", "user"]
    assert "not a JSON object" in str(last["messages"][-1])

    request_id = raw.headers["x-request-id"]
    events = json.loads(await get(server, f"/requests/{request_id}/events"))["data"]
    types = [event["type"] for event in events if event["type"] != "token_generated"]
    attempt = ["generation_started", "generation_completed", "validation_failed", "retry_attempted"]
    assert types == [
        "request_received", "route_selected", *attempt, *attempt, *attempt[:2], "request_completed"
    ]  # fmt: skip
    assert (events[-1]["attempts"], raw.headers["x-abstractcore-cost-usd"]) == (3, str(events[-1]["cost_usd"]))
    assert events[-1]["cost_usd"] == pytest.approx(3 * (10 * 3e-6 + 4 * 15e-6))
    assert await get(server, f"/requests/{request_id}/stream") == raw.http_response.content


async def test_a_stream_shows_only_what_is_right(server: Front, client: AsyncOpenAI) -> None:
    server.answer("anthropic", streamed("Well..."), streamed('{"a": 1}'))
    usage: Any = {"include_usage": True}
    raw = await client.chat.completions.with_raw_response.create(**ASKED, **OBJECT, stream=True, stream_options=usage)
    chunks = [chunk async for chunk in raw.parse()]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == '{"a": 1}'
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 28
    rendered = await get(server, f"/requests/{raw.headers['x-request-id']}/stream")
    assert b"Well" not in rendered
    assert rendered.endswith(b"data: [DONE]\n\n")


async def test_a_model_that_never_gets_it_right_is_an_error(server: Front, client: AsyncOpenAI) -> None:
    server.answer("anthropic", whole("no"))
    before = len(server.asked("anthropic"))
    with pytest.raises(openai.InternalServerError) as failed:
        await client.chat.completions.create(**ASKED, **OBJECT)
    assert (failed.value.status_code, failed.value.code) == (502, "validation_failed")
    assert len(server.asked("anthropic")) - before == 3


async def test_a_format_that_the_provider_has_is_its_own_affair(server: Front, client: AsyncOpenAI) -> None:
    server.answer("anthropic", whole("not even JSON"))
    schema: Any = {"type": "json_schema", "json_schema": {"name": "p", "schema": {"type": "object"}}}
    answer = await client.chat.completions.create(**ASKED, response_format=schema)
    assert answer.choices[0].message.content == "not even JSON"
    assert server.asked("anthropic")[-1].json()["output_config"]["format"]["type"] == "json_schema"


async def test_several_answers_at_once_are_refused(server: Front, client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(**ASKED, **OBJECT, n=2)
    assert refused.value.param == "n"


async def test_every_answer_renders_again(server: Front, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(["verify", "--data-dir", str(server.process.data_dir)], {}) == 0, capsys.readouterr().out
