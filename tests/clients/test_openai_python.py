"""OpenAI's own Python client in front of every family: answers, tools, errors, models."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from tests.clients.front import MODELS, PLACES, STREAM, Front, front
from tests.clients.texts import STREAMED_TEXT, WHOLE_TEXT
from tests.gateway.scripted import Script

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLED = {"openai": "openai/tools.sse", "anthropic": "anthropic/tools.sse", "ollama": "ollama/tools.ndjson"}
CALLED_WHOLE = {"openai": "openai/body_tools.json", "anthropic": "anthropic/body.json"}
HI: Any = [{"role": "user", "content": "hi"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
PROVIDERS = list(PLACES)
ONE_OF_EACH_FAMILY = ["openai", "anthropic", "ollama"]


@pytest_asyncio.fixture(loop_scope="module")
async def client(server: Front) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=server.url, api_key="not-needed", max_retries=0) as made:
        yield made


def chunks_say(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


async def streamed(client: openai.AsyncOpenAI, model: str, **more: Any) -> list[ChatCompletionChunk]:
    """The chunks of an answer, each of the official type to the letter."""
    chunks = [c async for c in await client.chat.completions.create(model=model, messages=HI, stream=True, **more)]
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk.to_dict(), strict=True)
    return chunks


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_stream(client: openai.AsyncOpenAI, provider: str) -> None:
    chunks = await streamed(client, MODELS[provider])
    assert chunks_say(chunks) == STREAMED_TEXT[PLACES[provider].family]
    assert {chunk.model for chunk in chunks} == {MODELS[provider]}
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_whole_answer(client: openai.AsyncOpenAI, provider: str) -> None:
    raw = await client.chat.completions.with_raw_response.create(model=MODELS[provider], messages=HI)
    answer = raw.parse()
    ChatCompletion.model_validate(answer.to_dict(), strict=True)
    assert answer.choices[0].message.content == WHOLE_TEXT[PLACES[provider].family]
    assert answer.model == MODELS[provider]
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    assert answer.id == f"chatcmpl-{raw.headers['x-request-id']}"


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_usage_of_a_stream(client: openai.AsyncOpenAI, provider: str) -> None:
    *before, last = await streamed(client, MODELS[provider], stream_options={"include_usage": True})
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens > 0
    assert all(chunk.choices and chunk.usage is None for chunk in before)


async def test_the_demo(client: openai.AsyncOpenAI) -> None:
    question: Any = [{"role": "user", "content": 'Say "hello" 🎉\nagain'}]
    chunks = await client.chat.completions.create(model="demo/echo", messages=question, stream=True)
    assert chunks_say([chunk async for chunk in chunks]) == 'Say "hello" 🎉\nagain'
    answer = await client.chat.completions.create(model="demo/echo", messages=question)
    assert answer.choices[0].message.content == 'Say "hello" 🎉\nagain'


async def test_the_synchronous_client(server: Front) -> None:
    def ask() -> tuple[str | None, str]:
        with openai.OpenAI(base_url=server.url, api_key="not-needed", max_retries=0) as client:
            whole = client.chat.completions.create(model=MODELS["openai"], messages=HI)
            chunks = list(client.chat.completions.create(model=MODELS["anthropic"], messages=HI, stream=True))
            return whole.choices[0].message.content, chunks_say(chunks)

    assert await asyncio.to_thread(ask) == (WHOLE_TEXT["openai"], STREAMED_TEXT["anthropic"])


@pytest.mark.parametrize("provider", ONE_OF_EACH_FAMILY)
async def test_tools_in_a_stream(server: Front, client: openai.AsyncOpenAI, provider: str) -> None:
    """Through the client's own accumulator, which is strict about indices, ids and order."""
    server.play(provider, stream=CALLED[PLACES[provider].family])
    async with client.chat.completions.stream(model=MODELS[provider], messages=HI, tools=[WEATHER]) as stream:
        done = [event async for event in stream if event.type == "tool_calls.function.arguments.done"]
        answer = await stream.get_final_completion()
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert [call.function.name for call in calls] == [event.name for event in done] == ["get_weather", "get_time"]
    assert calls[0].function.arguments.startswith('{"city"')
    assert len({call.id for call in calls}) == 2
    assert answer.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_tools_in_a_whole_answer(server: Front, client: openai.AsyncOpenAI, provider: str) -> None:
    server.play(provider, whole=CALLED_WHOLE[provider])
    answer = await client.chat.completions.create(model=MODELS[provider], messages=HI, tools=[WEATHER])
    (call, *_) = answer.choices[0].message.tool_calls or ()
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert "18446744073709551616123" in call.function.arguments
    assert answer.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("provider", ONE_OF_EACH_FAMILY)
async def test_tools_and_their_results_go_to_the_provider_natively(
    server: Front, client: openai.AsyncOpenAI, provider: str
) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Zürich"}'}}
    turns: Any = [
        *HI,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    await client.chat.completions.create(model=MODELS[provider], messages=turns, tools=[WEATHER])
    asked = server.asked(provider)[-1].json()
    assert NATIVE[provider](asked)


def _native_openai(asked: Any) -> bool:
    return bool(asked["tools"] == [WEATHER] and asked["messages"][2]["tool_call_id"] == "call_1")


def _native_anthropic(asked: Any) -> bool:
    (_, called, result) = asked["messages"]
    return bool(
        asked["tools"][0]["input_schema"] == WEATHER["function"]["parameters"]
        and called["content"][0] | {"type": "tool_use", "input": {"city": "Zürich"}} == called["content"][0]
        and result["content"][0]["tool_use_id"] == "call_1"
    )


def _native_ollama(asked: Any) -> bool:
    (_, called, result) = asked["messages"]
    return bool(
        asked["tools"] == [WEATHER]
        and called["tool_calls"][0]["function"]["arguments"] == {"city": "Zürich"}
        and (result["role"], result["content"]) == ("tool", "sunny")
    )


NATIVE = {"openai": _native_openai, "anthropic": _native_anthropic, "ollama": _native_ollama}


async def test_several_choices_logprobs_and_a_refusal(server: Front, client: openai.AsyncOpenAI) -> None:
    server.play("openai", stream="openai/two_choices.sse")
    chunks = await streamed(client, MODELS["openai"], n=2)
    texts = [(choice.index, choice.delta.content) for chunk in chunks for choice in chunk.choices]
    assert ["".join(text or "" for i, text in texts if i == index) for index in (0, 1)] == ["Heads", "Tails!"]
    server.play("openai", stream="openai/logprobs.sse")
    chunks = await streamed(client, MODELS["openai"], logprobs=True)
    found = [token.token for chunk in chunks for c in chunk.choices if c.logprobs for token in c.logprobs.content or ()]
    assert found == ["Yes", "!"]
    server.play("openai", stream="openai/refusal.sse")
    async with client.chat.completions.stream(model=MODELS["openai"], messages=HI) as stream:
        refused = await stream.get_final_completion()
    assert refused.choices[0].message.refusal == "I can't help with that."


class Person(BaseModel):
    name: str


async def test_structured_output(server: Front, client: openai.AsyncOpenAI) -> None:
    body = json.loads(Script.file("openai/body.json").body)
    body["choices"][0]["message"]["content"] = '{"name": "Ada"}'
    server.answer("openai", Script.json(body))
    answer = await client.chat.completions.parse(model=MODELS["openai"], messages=HI, response_format=Person)
    assert answer.choices[0].message.parsed == Person(name="Ada")
    assert server.asked("openai")[-1].json()["response_format"]["type"] == "json_schema"


async def test_the_callers_own_key_goes_to_the_provider(server: Front, client: openai.AsyncOpenAI) -> None:
    await client.chat.completions.create(model=MODELS["openai"], messages=HI)
    await client.chat.completions.create(model=MODELS["openai"], messages=HI, extra_body={"api_key": "sk-caller"})
    ours, theirs = server.asked("openai")
    assert (ours.headers["authorization"], theirs.headers["authorization"]) == ("Bearer sk-openai", "Bearer sk-caller")
    assert b"sk-caller" not in theirs.body


ERRORS = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
    500: openai.InternalServerError,
    503: openai.InternalServerError,
    529: openai.InternalServerError,
}
SHAPES: dict[str, Any] = {
    "openai": {"error": {"message": "no, because", "type": "t", "param": None, "code": "c"}},
    "anthropic": {"type": "error", "error": {"type": "api_error", "message": "no, because"}},
    "ollama": {"error": "no, because"},
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("provider", ONE_OF_EACH_FAMILY)
async def test_a_refusal_is_the_exception_of_its_status(
    server: Front, client: openai.AsyncOpenAI, provider: str, stream: bool
) -> None:
    for status, expected in ERRORS.items():
        server.answer(provider, Script.json(SHAPES[provider], status=status, headers={"retry-after": "7"}))
        with pytest.raises(expected, match="no, because") as raised:
            await client.chat.completions.create(model=MODELS[provider], messages=HI, stream=stream)
        error = raised.value
        assert isinstance(error, openai.APIStatusError)
        assert error.status_code == status
        assert error.response.headers["retry-after"] == "7"
        assert error.body is not None
        assert set(error.body) == {"message", "type", "param", "code"}


async def test_what_is_left_of_a_limit_is_passed_on(server: Front, client: openai.AsyncOpenAI) -> None:
    limits = {"x-ratelimit-remaining-requests": "0", "retry-after-ms": "20", "set-cookie": "a=b"}
    server.answer("openai", Script.file("openai/error.json", status=429, headers=limits))
    with pytest.raises(openai.RateLimitError) as raised:
        await client.chat.completions.create(model=MODELS["openai"], messages=HI)
    assert raised.value.code == "rate_limit_exceeded"
    headers = raised.value.response.headers
    assert (headers["x-ratelimit-remaining-requests"], headers["retry-after-ms"]) == ("0", "20")
    assert "set-cookie" not in headers


async def test_the_client_tries_again_when_it_is_told_to(server: Front, client: openai.AsyncOpenAI) -> None:
    busy = Script.file("openai/error.json", status=429, headers={"retry-after-ms": "10"})
    server.answer("openai", busy, busy, Script.file("openai/body.json"))
    again = client.with_options(max_retries=2)
    answer = await again.chat.completions.create(model=MODELS["openai"], messages=HI)
    assert answer.choices[0].message.content == WHOLE_TEXT["openai"]
    assert len(server.asked("openai")) == 3


@pytest.mark.parametrize("model", ["openai/none", "nobody/x", "unheard-of", "demo/none"])
async def test_a_model_that_is_not_there(server: Front, client: openai.AsyncOpenAI, model: str) -> None:
    missing = {"error": {"message": "no such model", "type": "invalid_request_error", "code": "model_not_found"}}
    server.answer("openai", Script.json(missing, status=404))
    with pytest.raises(openai.NotFoundError, match=r"/v1/models|has no model") as raised:
        await client.chat.completions.create(model=model, messages=HI)
    assert raised.value.code == "model_not_found"


async def test_a_request_that_is_wrong(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await client.chat.completions.create(model="demo/echo", messages=[], temperature=0)
    assert raised.value.param == "messages"
    with pytest.raises(openai.BadRequestError) as raised:
        await client.chat.completions.create(model=MODELS["ollama"], messages=HI, n=3)
    assert (raised.value.param, raised.value.code) == ("n", "unsupported_parameter")


BREAKS = {
    "cut": lambda name: Script.file(name, cut=len(Script.file(name).body) * 2 // 3),
    "quiet end": lambda name: Script.file(name, cut=len(Script.file(name).body) * 2 // 3, framing="close"),
}


@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize("provider", ONE_OF_EACH_FAMILY)
async def test_a_cut_stream_raises(server: Front, client: openai.AsyncOpenAI, provider: str, how: str) -> None:
    server.answer(provider, BREAKS[how](STREAM[provider]))
    await check_it_breaks(client, MODELS[provider], "Hello")


@pytest.mark.parametrize(
    ("provider", "script", "said"),
    [
        ("openai", "openai/error.sse", "Hello"),
        ("openrouter", "openai/openrouter_error.sse", "Three cu"),
        ("anthropic", "anthropic/error.sse", ""),
        ("ollama", "ollama/error.ndjson", "Hello"),
    ],
)
async def test_an_error_within_a_stream_raises(
    server: Front, client: openai.AsyncOpenAI, provider: str, script: str, said: str
) -> None:
    server.answer(provider, Script.file(script))
    await check_it_breaks(client, MODELS[provider], said)


async def check_it_breaks(client: openai.AsyncOpenAI, model: str, said: str) -> None:
    """Some of the answer comes, and then the client raises: it never takes it for whole."""
    chunks: list[ChatCompletionChunk] = []

    async def read_all() -> None:
        async for chunk in await client.chat.completions.create(model=model, messages=HI, stream=True):
            chunks.append(chunk)  # noqa: PERF401  what came before it raised is wanted

    with pytest.raises(openai.APIError):
        await read_all()
    assert chunks_say(chunks).startswith(said)
    assert all(choice.finish_reason is None for chunk in chunks for choice in chunk.choices)


async def test_a_cut_whole_answer_raises(server: Front, client: openai.AsyncOpenAI) -> None:
    server.answer("openai", Script.file("openai/body.json", cut=300))
    with pytest.raises(openai.InternalServerError) as raised:
        await client.chat.completions.create(model=MODELS["openai"], messages=HI)
    assert raised.value.status_code == 502


async def test_models_of_all_providers(tmp_path: Path) -> None:
    """On a server of its own: that a provider had no list to show is remembered for a while."""
    async with (
        front(tmp_path) as server,
        openai.AsyncOpenAI(base_url=server.url, api_key="not-needed") as client,
    ):
        for name, place in PLACES.items():
            if place.family == "openai":
                listed = {
                    "object": "list",
                    "data": [{"id": f"of-{name}", "object": "model", "created": 1, "owned_by": "o"}],
                }
                server.upstream.script(place.models, Script.json(listed))
        server.upstream.script(PLACES["anthropic"].models, Script.json({"data": [
            {"type": "model", "id": "claude-x", "display_name": "X", "created_at": "2026-01-01T00:00:00Z"}
        ], "has_more": False, "first_id": "claude-x", "last_id": "claude-x"}))  # fmt: skip
        server.upstream.script(
            PLACES["ollama"].models, Script.json({"models": [{"name": "qwen3:4b", "model": "qwen3:4b"}]})
        )
        found = [model.id async for model in client.models.list()]
        assert {f"{name}/of-{name}" for name, place in PLACES.items() if place.family == "openai"} <= set(found)
        assert {"anthropic/claude-x", "ollama/qwen3:4b", "demo/echo"} <= set(found)
        assert (await client.models.retrieve("demo/echo")).id == "demo/echo"
