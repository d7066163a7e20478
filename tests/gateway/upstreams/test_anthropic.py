"""The anthropic family over a socket, and the official client as the judge of the scripts."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import pytest

from gateway.upstreams.anthropic import Anthropic
from gateway.upstreams.upstream import ModelInfo, UpstreamFailure
from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.upstreams.calling import answer, http_client, provider, refusal

ROUTE = "POST /v1/messages"
HI: dict[str, Any] = {"model": "claude-x", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize("split", [None, 1, 7])
async def test_a_stream_over_a_socket(split: int | None) -> None:
    async with ScriptedServer() as server, http_client() as http:
        server.script(ROUTE, Script.file("anthropic/tools.sse", split=split))
        whole, complete = await answer(Anthropic(http), server.base_url, HI | {"stream": True}, "sk-canary")
    assert complete
    assert [call["function"]["name"] for call in whole.choices()[0]["message"]["tool_calls"]] == [
        "get_weather",
        "get_time",
    ]
    (request,) = server.requests
    assert request.headers["x-api-key"] == "sk-canary"
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert request.json()["stream"] is True
    assert b"sk-canary" not in request.body


async def test_a_whole_body_over_a_socket() -> None:
    async with ScriptedServer() as server, http_client() as http:
        server.script(ROUTE, Script.file("anthropic/body.json", framing="length"))
        whole, complete = await answer(Anthropic(http), server.base_url, HI)
    assert complete
    assert whole.choices()[0]["message"]["content"] == "Let me check → now."
    assert "stream" not in server.requests[0].json()


async def test_a_cut_connection_is_a_failure_and_a_quiet_end_is_not_complete() -> None:
    half = Script.file("anthropic/text.sse", cut=1000)
    async with ScriptedServer() as server, http_client() as http:
        server.script(ROUTE, half)
        with pytest.raises(UpstreamFailure, match="broke"):
            await answer(Anthropic(http), server.base_url, HI | {"stream": True})
        event = half.body.index(b"event: message_delta")
        server.script(ROUTE, Script.file("anthropic/text.sse", cut=event, framing="close"))
        whole, complete = await answer(Anthropic(http), server.base_url, HI | {"stream": True})
    assert not complete
    assert whole.choices()[0]["message"]["content"]


async def test_leaving_ends_the_upstreams_work() -> None:
    async with ScriptedServer() as server, http_client() as http:
        server.script(ROUTE, Script.file("anthropic/text.sse", cut=None, hold=True))
        upstream, where = Anthropic(http), provider("anthropic", server.base_url)
        opened = await upstream.open(where, upstream.encode(where, "claude-x", HI | {"stream": True}), None)
        await opened.read()
        await opened.close()
        await asyncio.wait_for(server.requests[0].left.wait(), 30)


async def test_errors() -> None:
    async with ScriptedServer() as server, http_client() as http:
        server.script(ROUTE, Script.file("anthropic/error.json", status=404))
        error = await refusal(Anthropic(http), server.base_url, HI)
    assert (error.status, error.code, error.message) == (404, "model_not_found", "model: claude-0")


def _listed(name: str) -> dict[str, Any]:
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": "2025-09-29T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": 200000,
        "capabilities": {"thinking": {"supported": True}, "batch": {"supported": False}},
    }


async def test_models_come_page_after_page() -> None:
    def page(request: Any) -> Script:
        after = request.query.get("after_id", [None])[0]
        names = ["claude-a", "claude b&c"] if after is None else ["claude-d"]
        data = [_listed(name) for name in names]
        return Script.json({"data": data, "has_more": after is None, "first_id": names[0], "last_id": names[-1]})

    async with ScriptedServer() as server, http_client() as http:
        server.script("GET /v1/models", page)
        models = await Anthropic(http).models(provider("anthropic", server.base_url), "sk-canary")
        client = anthropic.AsyncAnthropic(base_url=server.base_url, api_key="k", max_retries=0)
        official = [model.id async for model in client.models.list(limit=2)]
        await client.close()
    assert [model.id for model in models] == ["claude-a", "claude b&c", "claude-d"] == official
    assert models[0] == ModelInfo(
        id="claude-a",
        type="text-generation",
        created=1759104000,
        owned_by="anthropic",
        context_length=200000,
        capabilities=("thinking",),
    )
    assert server.requests[1].query["after_id"] == ["claude b&c"]


@pytest.mark.parametrize("script", [Script.json({"error": "no"}, status=500), Script.json([1]), Script(b"<html>")])
async def test_a_list_that_cannot_be_had_is_a_failure(script: Script) -> None:
    async with ScriptedServer() as server, http_client() as http:
        server.script("GET /v1/models", script)
        with pytest.raises(UpstreamFailure):
            await Anthropic(http).models(provider("anthropic", server.base_url), None)


@pytest.mark.parametrize("name", ["text", "tools", "thinking", "cache", "refusal"])
async def test_the_official_client_reads_the_scripts_as_we_do(name: str) -> None:
    async with ScriptedServer() as server, http_client() as http:
        server.script(ROUTE, Script.file(f"anthropic/{name}.sse"))
        ours, _ = await answer(Anthropic(http), server.base_url, HI | {"stream": True})
        client = anthropic.AsyncAnthropic(base_url=server.base_url, api_key="k", max_retries=0)
        async with client.messages.stream(
            model="claude-x", max_tokens=10, messages=[{"role": "user", "content": "hi"}]
        ) as stream:
            official = await stream.get_final_message()
        await client.close()
    message = ours.choices()[0]["message"]
    assert message["content"] == "".join(block.text for block in official.content if block.type == "text")
    assert message.get("reasoning_content", "") == "".join(
        block.thinking for block in official.content if block.type == "thinking"
    )
    assert [call["id"] for call in message.get("tool_calls", ())] == [
        block.id for block in official.content if block.type == "tool_use"
    ]
    assert ours.meta.usage is not None
    assert ours.meta.usage.output_tokens == official.usage.output_tokens


async def test_the_official_client_reads_the_body_and_the_errors() -> None:
    async with ScriptedServer() as server:
        server.script(
            ROUTE,
            Script.file("anthropic/body.json"),
            Script.file("anthropic/error.json", status=404),
            Script.file("anthropic/error.sse"),
        )
        client = anthropic.AsyncAnthropic(base_url=server.base_url, api_key="k", max_retries=0)
        asked: Any = {"model": "claude-x", "max_tokens": 10, "messages": HI["messages"]}
        message = await client.messages.create(**asked)
        assert message.stop_reason == "tool_use"
        with pytest.raises(anthropic.NotFoundError, match="claude-0"):
            await client.messages.create(**asked)
        with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
            async for _ in await client.messages.create(**asked, stream=True):
                pass
        await client.close()
