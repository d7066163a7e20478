"""Vercel's AI SDK and Anthropic's Node client in front of every family. `NODE_PATH` says where the packages are."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_asyncio

from tests.clients.front import MODELS, PLACES, STREAM, WHOLE, front
from tests.clients.node import results_of
from tests.clients.texts import STREAMED_TEXT, WHOLE_TEXT
from tests.clients.turns import calls_then_says, says
from tests.gateway.scripted import Request, Script

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.system]

SUNNY = 'It is 22 °C in "Oslo" 🎉.'
ADA = {"name": "Ada", "age": 36}
ADAPTERS = ["compatible", "openai", "responses", "anthropic"]
VECTOR = {"object": "embedding", "index": 0, "embedding": [0.5, -0.25]}
ASKED = {
    "chat": dict(MODELS),
    "tools": "vllm/tools",
    "person": "vllm/person",
    "memory": "vllm/memory",
    "busy": "vllm/busy",
    "vectors": "vllm/vectors",
}


def by_model(request: Request) -> Script:
    """What a model of this name does."""
    body = request.json()
    if body["model"] == "tools":
        return calls_then_says("get_weather", {"city": "Oslo"}, SUNNY)(request)
    if body["model"] == "person":
        return says(json.dumps(ADA))(request)
    if body["model"] == "memory":
        return says(" ".join(message["role"] for message in body["messages"]))(request)
    if body["model"] == "busy":
        return Script.file("openai/error.json", status=429, headers={"retry-after": "7"})
    return Script.file(STREAM["openai"] if body.get("stream") else WHOLE["openai"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Client -> what it printed."""
    async with front(tmp_path_factory.mktemp("node")) as server:
        server.answer("vllm", by_model)
        usage = {"prompt_tokens": 2, "total_tokens": 2}
        vectors = {"object": "list", "data": [VECTOR], "model": "vectors", "usage": usage}
        server.upstream.script("POST /vllm/v1/embeddings", Script.json(vectors))
        asked = json.dumps(ASKED)
        return {
            "vercel": await results_of("vercel_ai.cjs", server.url, asked),
            "anthropic": await results_of("anthropic_node.cjs", server.process.url, asked),
        }


@pytest.mark.parametrize("client", ["vercel", "anthropic"])
@pytest.mark.parametrize("provider", PLACES)
async def test_whole_answers_and_streams(results: dict[str, Any], client: str, provider: str) -> None:
    whole, streamed = results[client]["whole"][provider], results[client]["streamed"][provider]
    assert whole["text"] == WHOLE_TEXT[PLACES[provider].family]
    assert streamed["text"] == streamed.get("heard", streamed["text"]) == STREAMED_TEXT[PLACES[provider].family]
    assert streamed["reason"] == {"vercel": "stop", "anthropic": "end_turn"}[client]
    tokens = {"vercel": "total", "anthropic": "output"}[client]
    assert whole[tokens] > 0
    assert streamed[tokens] > 0


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("how", ["called", "called_streamed"])
async def test_vercels_tool_loop(results: dict[str, Any], how: str, adapter: str) -> None:
    """Over chat completions with either adapter, over Responses, and over Anthropic's Messages."""
    assert results["vercel"][how][adapter] == {"text": SUNNY, "steps": 2, "cities": ["Oslo"]}


@pytest.mark.parametrize("adapter", ADAPTERS)
async def test_vercels_conversations(results: dict[str, Any], adapter: str) -> None:
    """The model is told again what it said."""
    assert results["vercel"]["remembered"][adapter] == "user assistant user"


async def test_vercels_structured_output_and_vectors(results: dict[str, Any]) -> None:
    assert results["vercel"]["structured"] == {"openai": ADA, "responses": ADA}
    assert results["vercel"]["vector"] == [0.5, -0.25]


@pytest.mark.parametrize("adapter", ADAPTERS)
async def test_vercels_errors(results: dict[str, Any], adapter: str) -> None:
    failed = results["vercel"]["failed"][adapter]
    assert (failed["kind"], failed["status"], failed["retryable"]) == ("AI_APICallError", 429, True)
    assert "Rate limit" in failed["message"]


async def test_anthropics_tools(results: dict[str, Any]) -> None:
    called = results["anthropic"]["called"]
    assert (called["given"], called["text"], called["reason"]) == ({"city": "Oslo"}, SUNNY, "end_turn")


async def test_anthropics_errors_and_count(results: dict[str, Any]) -> None:
    failed = results["anthropic"]["failed"]
    assert failed["busy"] == {"kind": "RateLimitError", "status": 429, "type": "rate_limit_error"}
    assert failed["missing"] == {"kind": "NotFoundError", "status": 404, "type": "not_found_error"}
    assert results["anthropic"]["counted"] > 1
