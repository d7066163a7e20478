"""The ollama family over a socket, and the official client as the judge of the scripts."""

from __future__ import annotations

from typing import Any

import ollama
import pytest

from gateway.upstreams.ollama import Ollama
from gateway.upstreams.upstream import ModelInfo, UpstreamFailure
from tests.gateway.scripted import Request, Script, ScriptedServer
from tests.gateway.upstreams.calling import answer, http_client, provider, refusal

ROUTE = "POST /api/chat"
HI: dict[str, Any] = {"model": "qwen3:4b", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize("split", [None, 1, 7])
async def test_a_stream_over_a_socket(split: int | None) -> None:
    async with ScriptedServer() as server, http_client() as http:
        server.script(ROUTE, Script.file("ollama/text.ndjson", split=split))
        whole, complete = await answer(Ollama(http), server.base_url, HI | {"stream": True})
    assert complete
    assert whole.choices()[0]["message"]["content"].startswith("Hello")
    (request,) = server.requests
    assert request.json()["stream"] is True
    assert "authorization" not in request.headers


async def test_a_whole_body_over_a_socket() -> None:
    async with ScriptedServer() as server, http_client() as http:
        server.script(ROUTE, Script.file("ollama/body.json", framing="length"))
        whole, complete = await answer(Ollama(http), server.base_url, HI)
    assert complete
    assert whole.choices()[0]["message"]["content"] == "No, 27 is composite."
    assert server.requests[0].json()["stream"] is False


async def test_a_cut_connection_is_a_failure_and_a_quiet_end_is_not_complete() -> None:
    async with ScriptedServer() as server, http_client() as http:
        server.script(ROUTE, Script.file("ollama/text.ndjson", cut=200))
        with pytest.raises(UpstreamFailure, match="broke"):
            await answer(Ollama(http), server.base_url, HI | {"stream": True})
        first = Script.file("ollama/text.ndjson").body.index(b"\n")
        server.script(ROUTE, Script.file("ollama/text.ndjson", cut=first, framing="close"))
        whole, complete = await answer(Ollama(http), server.base_url, HI | {"stream": True})
    assert not complete
    assert whole.choices()[0]["message"]["content"] == "Hello"


async def test_errors() -> None:
    async with ScriptedServer() as server, http_client() as http:
        server.script(ROUTE, Script.file("ollama/error.json", status=404))
        error = await refusal(Ollama(http), server.base_url, HI)
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")


def _tag(name: str, family: str) -> dict[str, Any]:
    return {
        "name": name,
        "model": name,
        "modified_at": "2024-11-04T14:56:49.277302595-07:00",
        "size": 1,
        "digest": "d",
        "details": {"family": family, "families": [family]},
    }


def _show(request: Request) -> Script:
    """Knows one model; another one breaks, a third one takes its time."""
    name = request.json()["model"]
    if name == "slow":
        return Script.json({"capabilities": ["completion"]}, delay_s=60)
    if name != "qwen3:4b":
        return Script.json({"error": "broken"}, status=500)
    info = {"general.architecture": "qwen3", "qwen3.context_length": 40960}
    return Script.json({"capabilities": ["completion", "tools", "thinking"], "model_info": info})


async def test_models_are_described_as_far_as_that_is_quick() -> None:
    tags = [_tag("qwen3:4b", "qwen3"), _tag("minilm", "bert"), _tag("old", "llama"), _tag("slow", "llama")]
    async with ScriptedServer() as server, http_client() as http:
        server.script("GET /api/tags", Script.json({"models": tags}))
        server.script("POST /api/show", _show)
        models = await Ollama(http).models(provider("ollama", server.base_url), None)
        official = await ollama.AsyncClient(host=server.base_url).list()
    assert [model.id for model in models] == [model.model for model in official.models]
    assert models[0] == ModelInfo(
        id="qwen3:4b",
        type="text-generation",
        created=1730757409,
        owned_by="ollama",
        context_length=40960,
        capabilities=("completion", "tools", "thinking"),
    )
    assert [(model.type, model.capabilities) for model in models[1:]] == [
        ("text-embedding", ()),
        ("text-generation", ()),
        ("text-generation", ()),
    ]


@pytest.mark.parametrize("script", [Script.json({"error": "no"}, status=500), Script.json({}), Script(b"<html>")])
async def test_a_list_that_cannot_be_had_is_a_failure(script: Script) -> None:
    async with ScriptedServer() as server, http_client() as http:
        server.script("GET /api/tags", script)
        with pytest.raises(UpstreamFailure):
            await Ollama(http).models(provider("ollama", server.base_url), None)


@pytest.mark.parametrize("name", ["text", "tools", "thinking", "cached", "logprobs"])
async def test_the_official_client_reads_the_scripts_as_we_do(name: str) -> None:
    async with ScriptedServer() as server, http_client() as http:
        server.script(ROUTE, Script.file(f"ollama/{name}.ndjson"))
        ours, _ = await answer(Ollama(http), server.base_url, HI | {"stream": True})
        client = ollama.AsyncClient(host=server.base_url)
        parts = [part async for part in await client.chat("qwen3:4b", HI["messages"], stream=True)]
    message = ours.choices()[0]["message"]
    assert (message["content"] or "") == "".join(part.message.content or "" for part in parts)
    assert message.get("reasoning_content", "") == "".join(part.message.thinking or "" for part in parts)
    assert [call["function"]["name"] for call in message.get("tool_calls", ())] == [
        call.function.name for part in parts for call in part.message.tool_calls or ()
    ]
    assert parts[-1].done
    assert ours.meta.usage is not None
    assert ours.meta.usage.output_tokens == parts[-1].eval_count


async def test_the_official_client_reads_the_body_and_the_errors() -> None:
    async with ScriptedServer() as server:
        server.script(
            ROUTE,
            Script.file("ollama/body.json"),
            Script.file("ollama/error.json", status=404),
            Script.file("ollama/error.ndjson"),
        )
        client = ollama.AsyncClient(host=server.base_url)
        whole = await client.chat("qwen3:4b", HI["messages"])
        assert whole.message.content == "No, 27 is composite."
        with pytest.raises(ollama.ResponseError, match="not found"):
            await client.chat("nothing", HI["messages"])
        with pytest.raises(ollama.ResponseError, match="unexpected EOF"):
            async for _ in await client.chat("qwen3:4b", HI["messages"], stream=True):
                pass
