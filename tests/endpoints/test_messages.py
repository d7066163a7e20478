"""Anthropic's protocol over every provider, with the official client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import anthropic
import pytest
import pytest_asyncio
from anthropic import AsyncAnthropic

from gateway.wire.messages.errors import TYPES
from replay.cli import run as replay
from tests.clients.front import MODELS, Front, front
from tests.gateway.scripted import SCRIPTS, Script

pytestmark = pytest.mark.asyncio(loop_scope="module")

HI: Any = {"max_tokens": 64, "messages": [{"role": "user", "content": "Hi"}]}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgYGAAAAAEAAH2FzhVAAAAAElFTkSuQmCC"
TOOL: Any = {
    "name": "get_weather",
    "description": "of a place",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    async with front(tmp_path_factory.mktemp("messages")) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def client(server: Front) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(base_url=server.process.url, api_key="not-needed", max_retries=0) as made:
        yield made


async def again(server: Front, request_id: str) -> bytes:
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}/requests/{request_id}/stream") as answer:
        assert answer.status == 200, await answer.text()
        return await answer.read()


async def raw(server: Front, body: Any, path: str = "/messages", **headers: str) -> tuple[int, Any, bytes]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}{path}", json=body, headers=headers) as answer,
    ):
        return answer.status, answer.headers, await answer.read()


def calling(*functions: dict[str, str]) -> Script:
    """A stream with one call, its function in these pieces."""
    deltas: list[Any] = [{"index": 0, "function": function} for function in functions]
    deltas[0] |= {"id": "call_1", "type": "function"}
    choices: list[Any] = [{"index": 0, "delta": {"tool_calls": [delta]}} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": "tool_calls"})
    chunks = [{"id": "c", "object": "chat.completion.chunk", "choices": [choice]} for choice in choices]
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    return Script(body.encode(), content_type="text/event-stream")


@pytest.mark.parametrize("provider", MODELS)
async def test_every_provider_answers(server: Front, client: AsyncAnthropic, provider: str) -> None:
    server.play(provider)
    whole = await client.messages.create(model=MODELS[provider], **HI)
    text = "".join(block.text for block in whole.content if block.type == "text")
    assert text
    assert whole.stop_reason == ("tool_use" if provider == "anthropic" else "end_turn")  # as the scripts have it
    assert whole.usage.input_tokens > 0
    async with client.messages.stream(model=MODELS[provider], **HI) as stream:
        streamed = await stream.get_final_message()
    assert "".join(block.text for block in streamed.content if block.type == "text")
    assert (streamed.stop_reason, streamed.usage.output_tokens > 0) == ("end_turn", True)


@pytest.mark.parametrize("provider", ["openai", "ollama"])
async def test_the_stream_has_the_protocols_order(server: Front, provider: str) -> None:
    server.play(provider)
    status, headers, body = await raw(server, {"model": MODELS[provider], "stream": True, **HI})
    assert status == 200
    assert headers["request-id"] == headers["x-request-id"]
    frames = [frame for frame in body.decode().split("\n\n") if frame and not frame.startswith(":")]
    events = [json.loads(frame.split("\ndata: ", 1)[1]) for frame in frames]
    assert [frame.split("\n")[0] for frame in frames] == [f"event: {event['type']}" for event in events]
    types = [event["type"] for event in events]
    assert types[0] == "message_start"
    assert types[-2:] == ["message_delta", "message_stop"]
    assert types.count("content_block_start") == types.count("content_block_stop")
    assert await again(server, headers["x-request-id"]) == body


async def test_tools_go_there_and_back(server: Front, client: AsyncAnthropic) -> None:
    server.answer(
        "openai", calling({"name": "get_weather", "arguments": ""}, {"arguments": '{"city":'}, {"arguments": '"Oslo"}'})
    )
    async with client.messages.stream(
        model=MODELS["openai"], tools=[TOOL], tool_choice={"type": "any", "disable_parallel_tool_use": True}, **HI
    ) as stream:
        asked = await stream.get_final_message()
    calls = [block for block in asked.content if block.type == "tool_use"]
    assert [(call.name, call.input) for call in calls] == [("get_weather", {"city": "Oslo"})]
    assert asked.stop_reason == "tool_use"
    sent = server.asked("openai")[-1].json()
    assert sent["tools"][0]["function"]["parameters"] == TOOL["input_schema"]
    assert (sent["tool_choice"], sent["parallel_tool_calls"]) == ("required", False)

    server.play("openai")
    results: list[Any] = [
        {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "22 °C"}]}
        for call in calls
    ]
    turns: Any = [
        *HI["messages"],
        {"role": "assistant", "content": [block.model_dump() for block in asked.content]},
        {"role": "user", "content": [*results, {"type": "text", "text": "And now?"}]},
    ]
    await client.messages.create(model=MODELS["openai"], tools=[TOOL], messages=turns, max_tokens=64)
    told = server.asked("openai")[-1].json()["messages"]
    assert [m["role"] for m in told] == ["user", "assistant", *["tool"] * len(calls), "user"]
    assert told[1]["tool_calls"][0]["id"] == told[2]["tool_call_id"] == calls[0].id
    assert (told[2]["content"], told[-1]["content"]) == ("22 °C", "And now?")


@pytest.mark.parametrize("tools", [(), [{"name": "look", "input_schema": {"type": "object"}}]], ids=["", "prompted"])
@pytest.mark.parametrize(
    ("provider", "sent", "left_out"),
    [("ollama", {"think": False}, None),
     ("vllm", {"chat_template_kwargs": {"enable_thinking": False}}, None),
     ("openai", {}, "thinking"),
     ("lmstudio", {}, "thinking")],
)  # fmt: skip
async def test_a_model_that_is_not_to_think_is_told_so_where_no_model_refuses_it(
    server: Front, provider: str, sent: dict[str, Any], left_out: str | None, tools: Any
) -> None:
    server.play(provider)
    body = {
        "model": MODELS[provider],
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "Hi"}],
        "thinking": {"type": "disabled"},
        "tools": tools,
        "tool_mode": "prompted",
    }
    async with aiohttp.ClientSession() as session, session.post(f"{server.url}/messages", json=body) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers.get("x-abstractcore-ignored") == left_out
    said = server.asked(provider)[-1].json()
    words = ("think", "thinking", "reasoning_effort", "chat_template_kwargs")
    assert {name: said[name] for name in words if name in said} == sent


async def test_what_a_request_says_is_said_in_chats_words(server: Front, client: AsyncAnthropic) -> None:
    server.play("openai")
    await client.messages.create(
        model=MODELS["openai"],
        max_tokens=99,
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        stop_sequences=["END"],
        extra_body={"temperature": 0.5},
        metadata={"user_id": "u-1"},
        thinking={"type": "enabled", "budget_tokens": 2000},
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
                    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
                ],
            }
        ],
    )
    sent = server.asked("openai")[-1].json()
    assert sent["messages"] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
                {"type": "text", "text": "words"},
            ],
        },
    ]
    expected = {"max_completion_tokens": 99, "stop": ["END"], "temperature": 0.5, "user": "u-1"}
    assert {name: sent[name] for name in expected} == expected
    assert sent["reasoning_effort"] == "low"


async def test_anthropics_own_models_lose_nothing(server: Front, client: AsyncAnthropic) -> None:
    """Not a byte of what they stream, nor of what they are asked."""
    server.play("anthropic", stream="anthropic/thinking.sse")
    body = {
        "model": MODELS["anthropic"], "stream": True, **HI,
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        "tools": [{"type": "web_search_20250305", "name": "web_search"}],
        "context_management": {"edits": []},
    }  # fmt: skip
    status, headers, got = await raw(server, body, **{"anthropic-beta": "a-1,b-2", "anthropic-version": "2026-10-21"})
    assert status == 200
    sent = server.asked("anthropic")[-1]
    assert sent.json() == {**body, "model": "claude-sonnet-4-5"}
    assert (sent.headers["anthropic-beta"], sent.headers["anthropic-version"]) == ("a-1,b-2", "2026-10-21")
    frames = [frame for frame in (SCRIPTS / "anthropic/thinking.sse").read_bytes().split(b"\n\n") if frame.strip()]
    assert [frame for frame in got.split(b"\n\n") if frame] == frames
    assert await again(server, headers["x-request-id"]) == got

    server.play("anthropic")
    status, headers, got = await raw(server, {"model": MODELS["anthropic"], **HI})
    assert server.asked("anthropic")[-1].headers["anthropic-version"] == "2023-06-01"
    assert json.loads(got) == json.loads((SCRIPTS / "anthropic/body.json").read_bytes())


async def test_what_another_model_thought_is_not_told_to_anthropics(server: Front, client: AsyncAnthropic) -> None:
    thought = {"index": 0, "message": {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm."}}
    server.answer("openai", Script.json({"id": "c", "object": "chat.completion", "choices": [thought]}))
    said = await client.messages.create(model=MODELS["openai"], **HI)
    assert [block.type for block in said.content] == ["thinking", "text"]
    signed = {"type": "thinking", "thinking": "Ours.", "signature": "s"}
    only: Any = [{"type": "thinking", "thinking": "Hm.", "signature": ""}]
    turns: Any = [
        *HI["messages"],
        {"role": "assistant", "content": [block.model_dump() for block in said.content]},
        {"role": "user", "content": "Sure?"},
        {"role": "assistant", "content": only},
        {"role": "assistant", "content": [signed, {"type": "text", "text": "Quite."}]},
        {"role": "user", "content": "Good."},
    ]
    server.play("anthropic")
    answer = await client.messages.with_raw_response.create(
        model=MODELS["anthropic"], max_tokens=64, messages=turns, thinking={"type": "enabled", "budget_tokens": 1024}
    )
    assert answer.headers["x-abstractcore-ignored"] == "messages[].thinking"
    told = server.asked("anthropic")[-1].json()["messages"]
    assert [block["type"] for block in told[1]["content"]] == ["text"]
    assert told[2:] == [turns[2], *turns[4:]]
    server.play("openai")


async def test_what_is_left_out_is_named_and_a_format_is_not(server: Front) -> None:
    server.play("openai")
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    config = {"format": {"type": "json_schema", "schema": schema}, "effort": "low"}
    body = {"model": MODELS["openai"], **HI, "output_config": config, "context_management": {"edits": []}}
    status, headers, _ = await raw(server, body, **{"anthropic-beta": "x-1", "anthropic-version": "2026-10-21"})
    assert (status, headers["x-abstractcore-ignored"]) == (200, "anthropic_beta, context_management")
    sent = server.asked("openai")[-1].json()
    assert sent["response_format"]["json_schema"]["schema"] == schema
    assert sent["reasoning_effort"] == "low"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "name": "f"}]}]}, "id"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "tool_use_id"),
        ({"output_config": {"format": {"type": "yaml"}}}, "yaml"),
        ({"max_tokens": None}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search"),
        ({"mcp_servers": [{"url": "http://x"}]}, "mcp_servers"),
        ({"messages": [{"role": "user", "content": [{"type": "new_kind"}]}]}, "new_kind"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_what_cannot_be_said_is_refused_in_anthropics_words(server: Front, change: Any, param: str) -> None:
    status, _, body = await raw(server, {"model": MODELS["openai"], **HI, **change})
    told = json.loads(body)
    assert (status, told["type"], told["error"]["type"]) == (400, "error", "invalid_request_error")
    assert param in told["error"]["message"]


async def test_errors_are_anthropics_errors(server: Front, client: AsyncAnthropic) -> None:
    with pytest.raises(anthropic.NotFoundError):
        await client.messages.create(model="nobody/nothing", **HI)
    server.answer("openai", Script.json({"error": {"message": "slow down", "type": "requests"}}, status=429))
    with pytest.raises(anthropic.RateLimitError) as limited:
        await client.messages.create(model=MODELS["openai"], **HI)
    assert limited.value.response.json()["error"]["type"] == "rate_limit_error"
    assert limited.value.response.json()["request_id"] == limited.value.request_id
    for given, headers in ((HI, {"Host": "evil.example"}), ({**HI, "model": "nobody/nothing"}, {}), ({}, {})):
        status, told, body = await raw(server, given, **headers)
        assert json.loads(body)["error"]["type"] == TYPES[status]
        assert json.loads(body)["request_id"] == told["x-request-id"], status
    server.play("openai")


async def test_an_error_in_mid_stream_is_an_error_event(server: Front, client: AsyncAnthropic) -> None:
    chunk = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    error = b'data: {"error":{"message":"broke","code":500}}\n\n'
    server.answer("openai", Script(chunk + error, content_type="text/event-stream"))
    with pytest.raises(anthropic.APIStatusError) as broken:
        async with client.messages.stream(model=MODELS["openai"], **HI) as stream:
            await stream.get_final_message()
    assert broken.value.body["request_id"] == broken.value.request_id  # type: ignore[index]
    server.play("openai")


def begun(*events: tuple[str, Any], **changes: Any) -> Script:
    """A stream of Anthropic's that begins, and pings, and then this."""
    message = {"id": "m", "type": "message", "role": "assistant", "model": "c", "content": [], "usage": {}}
    said = [("message_start", {"message": message}), ("ping", {}), *events]
    frames = [f"event: {name}\ndata: {json.dumps({'type': name, **event})}\n\n" for name, event in said]
    return Script("".join(frames).encode(), content_type="text/event-stream", **changes)


OVERLOADED = ("error", {"error": {"type": "overloaded_error", "message": "Overloaded"}})
BEGINS = ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}})


@pytest.mark.parametrize("broken", [begun(OVERLOADED, split=7), begun(framing="close")], ids=["error", "cut"])
@pytest.mark.parametrize("other", ["anthropic/claude-other", MODELS["openai"]])
async def test_before_an_answer_began_another_model_can_give_it(server: Front, broken: Script, other: str) -> None:
    server.play("openai")
    server.answer("anthropic", broken, broken, Script.file("anthropic/text.sse"))
    body = {"model": MODELS["anthropic"], "stream": True, **HI, "retries": 1, "fallback": [other]}
    before = len(server.asked("anthropic"))
    status, headers, got = await raw(server, body)
    assert (status, headers["x-abstractcore-fallback"]) == (200, other)
    assert len(server.asked("anthropic")) - before == (3 if "claude" in other else 2), "tried again, and then the other"
    assert (got.count(b"event: message_start"), got.count(b"event: message_stop"), b"error" in got) == (1, 1, False)
    assert await again(server, headers["x-request-id"]) == got
    server.play("anthropic")


async def test_an_answer_that_never_began_is_an_error_and_one_that_did_is_not_given_twice(
    server: Front, client: AsyncAnthropic
) -> None:
    server.answer("anthropic", begun(OVERLOADED))
    with pytest.raises(anthropic.InternalServerError) as overloaded:
        await client.messages.create(model=MODELS["anthropic"], stream=True, **HI)
    assert overloaded.value.status_code == 529
    server.answer("anthropic", begun(BEGINS, OVERLOADED))
    body = {"model": MODELS["anthropic"], "stream": True, **HI, "retries": 1}
    status, headers, got = await raw(server, body)
    names = [frame.split(b"\n")[0][7:].decode() for frame in got.split(b"\n\n") if frame]
    assert (status, names) == (200, ["message_start", "ping", "content_block_start", "error"])
    assert await again(server, headers["x-request-id"]) == got
    server.play("anthropic")


async def test_tokens_are_counted_or_guessed(server: Front, client: AsyncAnthropic) -> None:
    server.upstream.script("POST /anthropic/v1/messages/count_tokens", Script.json({"input_tokens": 42}))
    counted = await client.messages.count_tokens(model=MODELS["anthropic"], messages=HI["messages"], tools=[TOOL])
    assert counted.input_tokens == 42
    body = {"model": MODELS["openai"], "messages": HI["messages"]}
    status, headers, guessed = await raw(server, body, "/messages/count_tokens")
    assert (status, headers["x-abstractcore-estimated"]) == (200, "true")
    assert json.loads(guessed)["input_tokens"] > 1
    status, _, refused = await raw(server, {"model": "x"}, "/messages/count_tokens")
    assert (status, json.loads(refused)["type"]) == (400, "error")


async def test_every_answer_renders_again(server: Front, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(["verify", "--data-dir", str(server.process.data_dir)], {}) == 0, capsys.readouterr().out
