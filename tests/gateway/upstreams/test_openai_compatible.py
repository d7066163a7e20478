"""The OpenAI-compatible family over a socket, and the official client as the judge of the scripts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import openai
import orjson
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from gateway.upstreams.openai_compatible import OpenAICompatible
from gateway.upstreams.upstream import UpstreamFailure
from tests.gateway.scripted import SCRIPTS, Script, ScriptedServer
from tests.gateway.upstreams.calling import answer, http_client, provider, refusal

ROUTE = "POST /chat/completions"
HI: dict[str, Any] = {"model": "gpt-x", "messages": [{"role": "user", "content": "hi"}]}
STREAMS = sorted(path.name for path in (SCRIPTS / "openai").glob("*.sse") if "error" not in path.name)


@pytest.mark.parametrize("split", [None, 1, 7])
async def test_a_stream_over_a_socket(split: int | None) -> None:
    async with ScriptedServer() as server, http_client() as http:
        server.script(ROUTE, Script.file("openai/tools.sse", split=split))
        whole, complete = await answer(OpenAICompatible(http), server.base_url, HI | {"stream": True}, "sk-canary")
    assert complete
    assert [call["id"] for call in whole.choices()[0]["message"]["tool_calls"]] == ["call_ZUe1", "call_Tim2"]
    (request,) = server.requests
    assert request.headers["authorization"] == "Bearer sk-canary"
    assert b"sk-canary" not in request.body


async def test_a_whole_body_over_a_socket() -> None:
    async with ScriptedServer() as server, http_client() as http:
        server.script(ROUTE, Script.file("openai/body.json", framing="length"))
        whole, complete = await answer(OpenAICompatible(http), server.base_url, HI)
    assert complete
    assert whole.choices()[0]["message"]["content"].startswith("Hello")
    assert "authorization" not in server.requests[0].headers


async def test_a_cut_connection_is_a_failure_and_a_quiet_end_is_not_complete() -> None:
    async with ScriptedServer() as server, http_client() as http:
        server.script(ROUTE, Script.file("openai/text.sse", cut=1200))
        with pytest.raises(UpstreamFailure, match="broke"):
            await answer(OpenAICompatible(http), server.base_url, HI | {"stream": True})
        begun = Script.file("openai/text.sse").body.index(b'data: {"id"', 900)
        server.script(ROUTE, Script.file("openai/text.sse", cut=begun, framing="close"))
        whole, complete = await answer(OpenAICompatible(http), server.base_url, HI | {"stream": True})
    assert not complete
    assert whole.choices()[0]["message"]["content"]


def encoded(body: dict[str, Any], *traits: str) -> dict[str, Any]:
    """What the provider gets."""
    where = replace(provider("openai_compatible", "http://h"), traits=frozenset(traits))
    sent = orjson.loads(OpenAICompatible(None).encode(where, "m", body).body)  # type: ignore[arg-type]  # calls nobody
    assert isinstance(sent, dict)
    return sent


def test_the_request_passes_as_it_came() -> None:
    body = HI | {"tools": [{"type": "function", "function": {"name": "f"}}], "seed": 7, "top_k": 40, "x": {"y": [None]}}
    assert encoded(body) == body | {"model": "m"}


def test_our_own_fields_stay_here() -> None:
    assert encoded(HI | {"api_key": "sk", "base_url": "http://x", "session_id": "s"}) == HI | {"model": "m"}


def test_usage_is_asked_for_where_it_is_understood() -> None:
    options = {"include_usage": False, "of_another": 1}
    body = HI | {"stream": True, "stream_options": options}
    assert encoded(body)["stream_options"] == options
    assert encoded(body, "asks_usage")["stream_options"] == options | {"include_usage": True}
    assert "stream_options" not in encoded(HI, "asks_usage")
    assert encoded(HI, "usage_include")["usage"] == {"include": True}


def test_padding_of_the_stream_is_not_asked_for() -> None:
    body = HI | {"stream": True, "stream_options": {"include_obfuscation": True}}
    assert "stream_options" not in encoded(body)
    assert encoded(body, "asks_usage")["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"error":{"message":"slow down","type":"requests","param":null,"code":"rate_limit_exceeded"}}', "slow down"),
        (b'{"error":"no such model"}', "no such model"),
        (b'{"object":"error","message":"too long","type":"BadRequestError","code":429}', "too long"),
        (b'{"detail":[{"loc":["body","x"],"msg":"extra"}]}', "extra"),
        (b'{"detail":"Not Found"}', "Not Found"),
        (b'[{"error":{"code":429,"message":"Quota","status":"RESOURCE_EXHAUSTED"}}]', "Quota"),
        (b"[]", "the provider answered 429"),
        (b"<html>sk-secret</html>", "the provider answered 429"),
        (b"", "the provider answered 429"),
        (b"{}", "the provider answered 429"),
    ],
)
async def test_errors_in_every_shape(body: bytes, found: str) -> None:
    async with ScriptedServer() as server, http_client() as http:
        server.script(ROUTE, Script(body, status=429))
        error = await refusal(OpenAICompatible(http), server.base_url, HI)
    assert error.status == 429
    assert found in error.message


async def test_models() -> None:
    listed = [
        {"id": "gpt-x", "object": "model", "created": 1, "owned_by": "openai"},
        {"id": "text-embedding-3", "object": "model"},
        {"id": "BAAI/bge-Reranker-v2", "object": "model"},
        {"id": "anthropic/claude", "context_length": 200_000},
        {"object": "model"},
    ]
    async with ScriptedServer() as server, http_client() as http:
        server.script("GET /models", Script.json({"object": "list", "data": listed}, split=5))
        models = await OpenAICompatible(http).models(provider("openai_compatible", server.base_url), "k")
        server.script("GET /models", Script.json(listed))
        with pytest.raises(UpstreamFailure):
            await OpenAICompatible(http).models(provider("openai_compatible", server.base_url), "k")
    assert [(model.id, model.type) for model in models] == [
        ("gpt-x", "text-generation"), ("text-embedding-3", "text-embedding"),
        ("BAAI/bge-Reranker-v2", "text-reranking"), ("anthropic/claude", "text-generation"),
    ]  # fmt: skip
    assert models[3].context_length == 200_000
    assert server.requests[0].headers["authorization"] == "Bearer k"


NO_TEXT = [
    "whisper-1", "openai/whisper-large-v3", "gpt-4o-mini-transcribe", "tts-1-hd", "gpt-4o-mini-tts", "dall-e-3",
    "gpt-image-1", "chatgpt-image-latest", "omni-moderation-latest", "gpt-realtime", "sora-2",
]  # fmt: skip
TEXT = ["gpt-5.2", "gpt-4o-audio-preview", "google/gemini-2.5-flash-image", "org/Sorani-7B", "tts-org/chat-1"]


async def test_models_that_hear_speak_draw_or_judge_are_not_said_to_write() -> None:
    async with ScriptedServer() as server, http_client() as http:
        server.script("GET /models", Script.json({"data": [{"id": name} for name in NO_TEXT + TEXT]}))
        models = await OpenAICompatible(http).models(provider("openai_compatible", server.base_url), "k")
    assert {model.id: model.type for model in models} == {
        **dict.fromkeys(NO_TEXT),
        **dict.fromkeys(TEXT, "text-generation"),
    }


@pytest.mark.parametrize(
    ("said", "length"),
    [
        ({"max_model_len": 4096}, 4096),
        ({"context_length": -1, "max_model_len": 4096}, 4096),
        ({"context_length": -1}, None),
        ({"context_length": 0}, None),
        ({"context_length": True}, None),
        ({"context_length": "8k"}, None),
    ],
)
async def test_a_context_that_is_no_length_is_not_known(said: dict[str, Any], length: int | None) -> None:
    """Else no request would fit into it."""
    async with ScriptedServer() as server, http_client() as http:
        server.script("GET /models", Script.json({"data": [{"id": "m", **said}]}))
        (model,) = await OpenAICompatible(http).models(provider("openai_compatible", server.base_url), "k")
    assert model.context_length == length


@pytest.mark.parametrize(("status", "told"), [(200, "models"), (401, "failure"), (404, "models")])
async def test_a_list_that_is_open_to_all_says_nothing_of_a_key_which_is_asked_about(status: int, told: str) -> None:
    async with ScriptedServer() as server, http_client() as http:
        server.script("GET /models", Script.json({"data": [{"id": "gpt-x"}]}))
        server.script("GET /key", Script.json({"data": {}}, status=status))
        open_to_all = replace(provider("openai_compatible", server.base_url), traits=frozenset({"open_models"}))
        try:
            found = "models" if await OpenAICompatible(http).models(open_to_all, "k") else "none"
        except UpstreamFailure:
            found = "failure"
        assert found == told
        assert len(await OpenAICompatible(http).models(open_to_all, None)) == 1  # without a key there is nothing to ask


@pytest.mark.parametrize("name", STREAMS)
async def test_the_official_client_reads_the_scripts_as_we_do(name: str) -> None:
    async with ScriptedServer() as server, http_client() as http:
        server.script(ROUTE, Script.file(f"openai/{name}"))
        ours, _ = await answer(OpenAICompatible(http), server.base_url, HI | {"stream": True})
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="k", max_retries=0) as client:
            chunks = [chunk async for chunk in await client.chat.completions.create(**HI, stream=True)]
    firsts = [choice for chunk in chunks for choice in chunk.choices if choice.index == 0]
    message = ours.choices()[0]["message"]
    assert (message["content"] or "") == "".join(choice.delta.content or "" for choice in firsts)
    assert (message["refusal"] or "") == "".join(choice.delta.refusal or "" for choice in firsts)
    assert ours.finish_reason == next(choice.finish_reason for choice in firsts if choice.finish_reason)
    assert ours.meta.usage is not None
    last = [chunk.usage for chunk in chunks if chunk.usage is not None][-1]
    assert (ours.meta.usage.input_tokens, ours.meta.usage.output_tokens) == (
        last.prompt_tokens, last.completion_tokens,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["text", "tools", "logprobs", "two_choices", "refusal"])
def test_the_scripts_of_openai_are_of_its_types(name: str) -> None:
    for frame in Script.file(f"openai/{name}.sse").body.split(b"\n\n")[:-2]:
        ChatCompletionChunk.model_validate_json(frame.removeprefix(b"data: "))
    ChatCompletion.model_validate_json(Script.file("openai/body.json").body)
    ChatCompletion.model_validate_json(Script.file("openai/body_tools.json").body)
