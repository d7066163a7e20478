"""A request's files at the other models that are called for it: each gets what it can carry, the log what it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from eventstore.reader import Reader
from replay.verify import verified
from tests.clients.front import saying
from tests.gateway.media import made
from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.whole import COMPATIBLE, PATIENCE_S, Gateway, chat, gateway

ANTHROPIC, OLLAMA, CAT = "POST /v1/messages", "POST /api/chat", "GET /cat.png"
BUSY = Script.json({"error": {"message": "busy"}}, status=503)
PDF = made.data_url("application/pdf", made.pdf())
PNG = made.image("png")


@asynccontextmanager
async def serving(tmp_path: Path, upstream: ScriptedServer) -> AsyncIterator[Gateway]:
    """OpenAI, Anthropic and Ollama at one upstream, which has the picture of a cat too."""
    upstream.script(COMPATIBLE, BUSY)
    upstream.script(ANTHROPIC, saying("anthropic", "A cat."))
    upstream.script(OLLAMA, saying("ollama", "A cat."))
    upstream.script(CAT, Script(PNG, content_type="image/png"))
    env = {
        "OPENAI_BASE_URL": f"{upstream.base_url}/v1",
        "OPENAI_API_KEY": "sk-ours",
        "ABSTRACTCORE_FILE_URL_ALLOWLIST": upstream.base_url.removeprefix("http://"),
    }
    async with gateway(tmp_path / "logs", upstream.base_url, env=env) as served:
        yield served


def asking(part: dict[str, Any], model: str, **fields: Any) -> dict[str, Any]:
    return {**chat(model, **fields), "messages": [{"role": "user", "content": [part]}]}


def cat(upstream: ScriptedServer) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"{upstream.base_url}/cat.png"}}


def asked(upstream: ScriptedServer, chats: str) -> list[Any]:
    """The first message of each call there."""
    method, path = chats.split()
    return [r.json()["messages"][0] for r in upstream.requests if (r.method, r.path) == (method, path)]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_model_to_fall_back_on_gets_what_it_can_carry(tmp_path: Path, stream: bool) -> None:
    async with ScriptedServer() as upstream, serving(tmp_path, upstream) as served:
        body = asking(cat(upstream), "openai/m", stream=stream, fallback=["ollama/llava", "anthropic/claude"])
        got = await served.ask(body)
        events = await served.ended(got.request_id)
        assert asked(upstream, COMPATIBLE)[0]["content"] == [cat(upstream)]  # it fetches images itself
        assert asked(upstream, OLLAMA) == [{"role": "user", "content": "", "images": [made.data_url("", PNG)[13:]]}]
        types = [event.type for event in events]
        [there] = [n for n, type_ in enumerate(types) if type_ == "file_attached"]
        assert types[there - 1 : there + 3] == [
            "generation_failed", "file_attached", "fallback_selected", "generation_started",
        ]  # fmt: skip
        digest = bytes.fromhex(events[there].body["digest"])
    with Reader(tmp_path / "logs") as reader:
        assert reader.read_blob(digest) == PNG
        assert verified(reader)["listed"] == []


async def test_a_document_is_one_again_where_it_can_be_read(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream, serving(tmp_path, upstream) as served:
        upstream.script(OLLAMA, BUSY)
        part = {"type": "file", "file": {"file_data": PDF, "filename": "r.pdf"}}
        got = await served.ask(asking(part, "ollama/qwen3", max_tokens=9, fallback=["anthropic/claude"]))
        assert made.WORD in asked(upstream, OLLAMA)[0]["content"]
        assert asked(upstream, ANTHROPIC)[0]["content"][0]["type"] == "document"
        given = [
            event.body["given_as"] for event in await served.ended(got.request_id) if event.type == "file_attached"
        ]
        assert given == ["text", "document"]


async def test_a_call_beside_gets_what_it_can_carry(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream, serving(tmp_path, upstream) as served:
        upstream.script(COMPATIBLE, Script(b"", content_type="text/event-stream", hold=True))
        hedge = {"after_ms": 1, "model": "ollama/llava"}
        got = await served.ask(asking(cat(upstream), "openai/m", hedge=hedge))
        assert (got.status, "images" in asked(upstream, OLLAMA)[0]) == (200, True)
        types = [event.type for event in await served.ended(got.request_id)]
        assert types.index("file_attached") + 1 == types.index("hedge_started")


async def test_a_file_that_cannot_be_had_is_a_model_less(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream, serving(tmp_path, upstream) as served:
        upstream.script(CAT, Script(b"gone", status=404))
        got = await served.ask(asking(cat(upstream), "openai/m", fallback=["ollama/llava"]))
        events = await served.ended(got.request_id)
        assert (got.status, asked(upstream, OLLAMA)) == (503, [])
        assert list(events[-2].body["skipped"]) == ["ollama/llava"]


async def test_a_client_that_leaves_while_they_are_read_ends_it(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream, serving(tmp_path, upstream) as served:
        upstream.script(CAT, Script(b"x", content_type="image/png", hold=True))
        leaving = asyncio.create_task(served.ask(asking(cat(upstream), "openai/m", fallback=["ollama/llava"])))
        async with asyncio.timeout(PATIENCE_S):
            while not any(request.path == "/cat.png" for request in upstream.requests):
                await asyncio.sleep(0.01)
        (one,) = served.server.exchanges.open
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        end = await served.end_of(one.submission.request_id)
        assert (end["type"], end["reason"], end["attempts"]) == ("request_cancelled", "client_left", 1)
        assert asked(upstream, OLLAMA) == []
