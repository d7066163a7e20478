"""OpenAI's own Node client in front of every family. `NODE_PATH` says where its package is installed."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_asyncio

from tests.clients.front import MODELS, PLACES, STREAM, WHOLE, front
from tests.clients.node import results_of
from tests.clients.texts import STREAMED_TEXT, WHOLE_TEXT
from tests.gateway.scripted import Request, Script

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.system]


VECTORS = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -0.25]}],
    "model": "vectors",
    "usage": {"prompt_tokens": 2, "total_tokens": 2},
}


def by_model(request: Request) -> Script:
    """What a model of this name does."""
    body = request.json()
    if body["model"] == "tools":
        return Script.file("openai/tools.sse")
    if body["model"] == "busy":
        return Script.file("openai/error.json", status=429, headers={"retry-after": "7"})
    if body["model"] == "cut":
        return Script.file("openai/text.sse", cut=1500, framing="close")
    return Script.file(STREAM["openai"] if body.get("stream") else WHOLE["openai"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    async with front(tmp_path_factory.mktemp("node")) as server:
        for provider in ("lmstudio", "vllm", "openai-compatible"):
            server.answer(provider, by_model)
        server.upstream.script("POST /vllm/v1/embeddings", Script.json(VECTORS))
        return await results_of("openai_node.cjs", server.url, json.dumps(MODELS))


@pytest.mark.parametrize("provider", PLACES)
async def test_whole_answers(results: dict[str, Any], provider: str) -> None:
    said = results["whole"][provider]
    assert (said["text"], said["model"]) == (WHOLE_TEXT[PLACES[provider].family], MODELS[provider])
    assert said["total"] > 0


@pytest.mark.parametrize("provider", PLACES)
async def test_streams(results: dict[str, Any], provider: str) -> None:
    said = results["streamed"][provider]
    assert said["text"] == STREAMED_TEXT[PLACES[provider].family]
    assert (said["ids"], said["reason"]) == (1, "stop")
    assert said["total"] > 0


@pytest.mark.parametrize("provider", PLACES)
async def test_responses_through_the_stream_helper(results: dict[str, Any], provider: str) -> None:
    said = results["responded"][provider]
    assert said["text"] == said["heard"] == STREAMED_TEXT[PLACES[provider].family]
    assert (said["status"], said["total"] > 0) == ("completed", True)


async def test_vectors_which_it_asks_for_in_base64(results: dict[str, Any]) -> None:
    assert results["vector"] == [0.5, -0.25]


async def test_tools_through_the_stream_helper(results: dict[str, Any]) -> None:
    assert results["called"]["tools"] == {"names": ["get_weather", "get_time"], "reason": "tool_calls"}


async def test_errors_are_of_the_clients_own_classes(results: dict[str, Any]) -> None:
    failed = results["failed"]
    assert (failed["missing"]["kind"], failed["missing"]["code"]) == ("NotFoundError", "model_not_found")
    assert failed["wrong"]["kind"] == "BadRequestError"
    assert (failed["busy"]["kind"], failed["busy"]["retry"]) == ("RateLimitError", "7")
    assert failed["cut"] is not None
    assert failed["cut"]["api"]


async def test_models(results: dict[str, Any]) -> None:
    assert "demo/echo" in results["listed"]
