"""The running server, the official client, and upstreams whose models write their calls as text."""

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

ASK: Any = [{"role": "user", "content": "What is the weather in Paris?"}]
TOOLS: Any = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
LOOP: Any = [
    *ASK,
    {
        "role": "assistant",
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "c", "content": "sunny"},
]
TAGGED = 'I look.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
NATIVE: list[dict[str, Any]] = [
    {"index": 0, "id": "c", "type": "function", "function": {"name": "get_weather", "arguments": ""}},
    {"index": 0, "function": {"arguments": '{"city"'}},
    {"index": 0, "function": {"arguments": ': "Paris"}'}},
]
MODEL = "lmstudio/qwen3-4b"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    settings = {"ABSTRACTCORE_TOOL_MODES": "vllm/*=prompted", "ABSTRACTCORE_DEFAULT_TOOL_CALL_TAGS": "xml"}
    async with front(tmp_path_factory.mktemp("tools"), env=settings) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def client(server: Front) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=server.url, api_key="not-needed", max_retries=0) as made:
        yield made


def sse(*deltas: dict[str, Any], reason: str = "stop") -> Script:
    """A chat stream."""
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    chunks = [{"choices": [choice]} for choice in (*choices, {"index": 0, "delta": {}, "finish_reason": reason})]
    body = b"".join(b"data: %s\n\n" % json.dumps(chunk, separators=(",", ":")).encode() for chunk in chunks)
    return Script(body + b"data: [DONE]\n\n", content_type="text/event-stream")


def texts(text: str, size: int) -> list[dict[str, Any]]:
    return [{"content": text[at : at + size]} for at in range(0, len(text), size)]


def whole(text: str) -> Script:
    message = {"role": "assistant", "content": text}
    return Script.json({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})


async def answer(client: AsyncOpenAI, stream: bool = True, **fields: Any) -> tuple[Any, str, list[str]]:
    """The message that the official client makes of the answer; its request's id; the texts as they came."""
    extra = {name: fields.pop(name) for name in ("tool_mode", "agent_format") if name in fields}
    asked = {"model": MODEL, "messages": ASK, "tools": TOOLS, "extra_body": extra, **fields}
    if not stream:
        raw = await client.chat.completions.with_raw_response.create(**asked)
        return raw.parse().choices[0], raw.headers["x-request-id"], []
    async with client.chat.completions.stream(**asked) as events:
        chunks = [event.chunk async for event in events if event.type == "chunk"]
        final = await events.get_final_completion()
    came = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    return final.choices[0], final.id.removeprefix("chatcmpl-"), came


async def read(server: Front, path: str) -> bytes:
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}/requests/{path}") as got:
        assert got.status == 200
        return await got.read()


async def route(server: Front, request_id: str) -> tuple[dict[str, Any], str]:
    """What `route_selected` and `generation_started` say of the tools."""
    events = json.loads(await read(server, f"{request_id}/events"))["data"]
    found = {event["type"]: event for event in events}
    return found["route_selected"]["inputs"], found["generation_started"]["decoder"]


async def test_a_streamed_call_in_text_is_a_tool_call(server: Front, client: AsyncOpenAI) -> None:
    server.answer("lmstudio", sse(*texts(TAGGED, 3)))
    choice, request_id, came = await answer(client, tool_mode="prompted", agent_format="openai")
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Paris"})
    assert choice.message.content == "".join(came) == "I look.\n"
    asked = server.asked("lmstudio")[-1].json()
    assert asked.keys().isdisjoint({"tools", "tool_choice", "tool_mode", "agent_format"})
    assert "get_weather" in asked["messages"][0]["content"]
    inputs, decoder = await route(server, request_id)
    assert inputs["tools"] == "prompted"
    assert inputs["tools_by"] == "request"
    assert decoder == "openai_chat_stream.2+tools.qwen3.1"
    again = await read(server, f"{request_id}/stream")
    assert call.id.encode() in again
    assert b"<tool_call>" not in again


async def test_a_whole_answer_by_the_setting(server: Front, client: AsyncOpenAI) -> None:
    server.answer("vllm", whole(TAGGED))
    choice, request_id, _ = await answer(client, stream=False, model="vllm/hermes-3", agent_format="openai")
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls[0].function.name == "get_weather"
    assert (await route(server, request_id))[0]["tools_by"] == "setting"


async def test_ollamas_word_on_its_model(server: Front, client: AsyncOpenAI) -> None:
    server.upstream.script("GET /ollama/api/tags", Script.json({"models": [{"name": "gemma3:4b"}]}))
    server.upstream.script("POST /ollama/api/show", Script.json({"capabilities": ["completion", "vision"]}))
    await client.models.list()
    said = '```tool_code\nget_weather(city="Paris")\n```'
    lines = [{"message": {"role": "assistant", "content": part}, "done": False} for part in (said[:9], said[9:])]
    lines.append({"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"})
    ndjson = "".join(json.dumps(line) + "\n" for line in lines).encode()
    server.answer("ollama", Script(ndjson, content_type="application/x-ndjson"))
    choice, request_id, came = await answer(client, model="ollama/gemma3:4b", agent_format="openai")
    assert json.loads(choice.message.tool_calls[0].function.arguments) == {"city": "Paris"}
    assert "".join(came) == ""
    assert (await route(server, request_id))[0]["tools_by"] == "provider"


FORCED: Any = [
    ({"tool_choice": "required"}, "tool_choice", "You must call the function get_weather"),
    ({"tool_choice": {"type": "function", "function": {"name": "get_weather"}}}, "tool_choice", "You must call"),
    ({"parallel_tool_calls": False}, "parallel_tool_calls", "at most one call"),
]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("fields", "by", "told"), FORCED)
async def test_what_ollama_has_no_word_for_is_said_in_the_prompt(
    server: Front, client: AsyncOpenAI, fields: Any, by: str, told: str, stream: bool
) -> None:
    lines = [{"message": {"role": "assistant", "content": TAGGED}, "done": not stream, "done_reason": "stop"}]
    if stream:
        lines.append({"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"})
    ndjson = "".join(json.dumps(line) + "\n" for line in lines).encode()
    server.answer("ollama", Script(ndjson, content_type="application/x-ndjson"))
    choice, request_id, _ = await answer(
        client, stream, model="ollama/qwen3:4b", tool_mode="auto", agent_format="openai", **fields
    )
    assert json.loads(choice.message.tool_calls[0].function.arguments) == {"city": "Paris"}
    assert choice.finish_reason == "tool_calls"
    asked = server.asked("ollama")[-1].json()
    assert asked.keys().isdisjoint({"tools", "tool_choice", "parallel_tool_calls"})
    assert told in asked["messages"][0]["content"]
    inputs, _ = await route(server, request_id)
    assert (inputs["tools"], inputs["tool_format"], inputs["tools_by"]) == ("prompted", "qwen3", by)


@pytest.mark.parametrize(("fields", "by", "_"), FORCED)
async def test_who_wants_ollamas_own_tools_is_told_that_it_has_no_word_for_that(
    client: AsyncOpenAI, fields: Any, by: str, _: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await answer(client, stream=False, model="ollama/qwen3:4b", tool_mode="native", **fields)
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", by)


async def test_results_go_back_as_text(server: Front, client: AsyncOpenAI) -> None:
    server.answer("lmstudio", whole("It is sunny."))
    choice, _, _ = await answer(client, stream=False, tool_mode="prompted", messages=LOOP)
    assert choice.message.content == "It is sunny."
    assert choice.finish_reason == "stop"
    roles = [message["role"] for message in server.asked("lmstudio")[-1].json()["messages"]]
    assert roles == ["system", "user", "assistant", "user"]


async def test_natively_nothing_is_changed(server: Front, client: AsyncOpenAI) -> None:
    server.answer("lmstudio", sse(*texts(TAGGED, 7)))
    choice, request_id, _ = await answer(client)
    assert choice.message.content == TAGGED
    assert choice.message.tool_calls is None
    assert server.asked("lmstudio")[-1].json()["tools"] == TOOLS
    assert "tools" not in (await route(server, request_id))[0]


async def test_calls_become_text_where_it_is_asked(server: Front, client: AsyncOpenAI) -> None:
    server.answer("lmstudio", sse(*({"tool_calls": [call]} for call in NATIVE), reason="tool_calls"))
    by_setting, request_id, _ = await answer(client)
    assert (
        by_setting.message.content == '<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call>'
    )
    assert by_setting.finish_reason == "stop"
    by_field, _, _ = await answer(client, agent_format="<|CALL,CALL|>")
    assert by_field.message.content == '<|CALL{"name": "get_weather", "arguments": {"city": "Paris"}}CALL|>'
    standard, _, _ = await answer(client, agent_format="openai")
    assert standard.message.tool_calls[0].function.arguments == '{"city": "Paris"}'
    assert b"tool_call>" in await read(server, f"{request_id}/stream")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_mode": "always"}, "tool_mode"),
        ({"agent_format": "qwen9"}, "agent_format"),
        ({"tool_mode": "prompted", "tools": [{"type": "custom", "custom": {"name": "c"}}]}, "tools[0]"),
    ],
)
async def test_what_cannot_be_is_refused(client: AsyncOpenAI, fields: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await answer(client, stream=False, **fields)
    assert refused.value.param == param


async def test_every_answer_is_made_again_byte_for_byte(server: Front, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(["verify", "--data-dir", str(server.process.data_dir)], {}) == 0, capsys.readouterr().out
