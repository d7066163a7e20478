"""Every endpoint over every provider: the README's matrix is what the running server does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.clients.front import MODELS, PLACES, Front, front
from tests.endpoints.matrix import ENDPOINTS, FAMILIES, WITH_MODEL, how
from tests.gateway.scripted import Script

HI = [{"role": "user", "content": "Hi"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HI},
    "/v1/responses": {"input": "Hi"},
    "/v1/messages": {"messages": HI, "max_tokens": 50},
    WITH_MODEL: {"contents": [{"parts": [{"text": "Hi"}]}]},
    "/v1/completions": {"prompt": "Hi"},
    "/v1/generate/structured": {"prompt": "7", "response_model": {"type": "integer"}},
    "/v1/embeddings": {"input": "Hi"},
    "/v1/images/generations": {"prompt": "a cat"},
    "/v1/images/edits": {"prompt": "a cat", "image": {"filename": "a.png", "data": "aGk="}},
    "/v1/audio/transcriptions": {"file": {"filename": "a.wav", "data": "aGk="}},
    "/v1/audio/translations": {"file": {"filename": "a.wav", "data": "aGk="}},
    "/v1/audio/speech": {"input": "Hi", "voice": "alloy"},
    "/v1/moderations": {"input": "Hi"},
    "/v1/rerank": {"query": "Hi", "documents": ["you"]},
}
NATIVE = {
    "/completions": Script.file("completions/body.json"),
    "/embeddings": Script.file("whole/embeddings.json"),
    "/images/generations": Script.file("whole/image.json"),
    "/images/edits": Script.file("whole/image.json"),
    "/audio/transcriptions": Script.json({"text": "Hi"}),
    "/audio/translations": Script.json({"text": "Hi"}),
    "/audio/speech": Script(b"sound", content_type="audio/mpeg"),
    "/moderations": Script.json({"id": "m", "results": []}),
    "/rerank": Script.json({"results": [{"index": 0, "relevance_score": 0.5}]}),
}
PROVIDERS = [*PLACES, "demo"]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    async with front(tmp_path_factory.mktemp("matrix")) as started:
        for place in PLACES.values():
            for path, script in NATIVE.items():
                started.upstream.script(f"POST {place.base}{path}", script)
        vectors = {"model": "e", "embeddings": [[0.5]], "prompt_eval_count": 1}
        started.upstream.script("POST /ollama/api/embed", Script.json(vectors))
        yield started


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("path", ENDPOINTS)
async def test_the_matrix_is_what_the_server_does(server: Front, path: str, provider: str) -> None:
    asked = len(server.upstream.requests)
    if path == "/v1/generate/structured" and provider in PLACES:
        server.say(provider, "7")
    body = {"model": MODELS.get(provider, "demo/echo"), **BODIES[path]}
    url = server.process.url + path.format(model=body["model"])
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as answer:
        status, told = answer.status, await answer.read()
    calls = [request for request in server.upstream.requests[asked:] if request.method == "POST"]
    expected = how(path, provider)
    if expected == "501":
        assert (status, json.loads(told)["error"]["code"], calls) == (501, "not_implemented", [])
        return
    assert status == 200, told
    if provider != "demo":
        [call] = calls
        in_chats_words = f"POST {call.path}" == PLACES[provider].chat
        assert in_chats_words == (expected == "as chat" or path in ("/v1/chat/completions", "/v1/messages"))


def test_every_endpoint_and_every_provider_is_in_it() -> None:
    assert BODIES.keys() == ENDPOINTS.keys()
    assert set(PROVIDERS) <= FAMILIES.keys()
