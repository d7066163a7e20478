"""Every answer says which request it is and how far the log was: those too whose heads their handlers send."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.gateway.whole import Gateway, gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")
CHAT = {"model": "demo/echo", "messages": [{"role": "user", "content": "Hello"}]}
RESPONSE = {"model": "demo/echo", "input": "Hello", "background": True}
GROUP = {"models": ["demo/echo", "demo/echo"], "prompt": "Hello"}
STREAMS = [
    ("/v1/chat/completions", CHAT),
    ("/v1/messages", {**CHAT, "max_tokens": 9}),
    ("/v1/responses", RESPONSE),
    ("/v1/generate/multi", GROUP),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    folder: Path = tmp_path_factory.mktemp("marked")
    async with gateway(folder, "http://127.0.0.1:9") as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def named(served: Gateway, headers: Mapping[str, str]) -> str:
    """The request that an answer names; it says a position of this log, too."""
    assert 0 < int(headers["x-abstractcore-position"]) <= await served.server.log.head()
    return headers["x-request-id"]


@pytest.mark.parametrize(("path", "body"), STREAMS)
async def test_a_stream_is_marked(
    served: Gateway, client: aiohttp.ClientSession, path: str, body: dict[str, Any]
) -> None:
    async with client.post(served.url + path, json={**body, "stream": True}) as answer:
        assert await named(served, answer.headers)
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        assert await answer.read()


async def test_a_stored_response_that_is_streamed_again_is_marked(
    served: Gateway, client: aiohttp.ClientSession
) -> None:
    async with client.post(f"{served.url}/v1/responses", json={**RESPONSE, "background": False}) as answer:
        stored = (await answer.json())["id"]
    async with client.get(f"{served.url}/v1/responses/{stored}?stream=true&starting_after=1") as again:
        assert await named(served, again.headers) not in stored  # it is a question of its own


async def test_the_feed_is_marked(served: Gateway, client: aiohttp.ClientSession) -> None:
    async with client.get(f"{served.url}/v1/events/stream") as feed:
        assert await named(served, feed.headers)


async def test_a_socket_is_marked(served: Gateway, client: aiohttp.ClientSession) -> None:
    async with client.ws_connect(f"{served.url}/v1/stream") as socket:
        assert await named(served, socket._response.headers)  # no other way leads to the head of the handshake
