"""What a provider does not count is estimated: its client is told what the log has, live and in replay."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from replay.cli import run as replay
from tests.crash.load import openai_body, openai_stream
from tests.gateway.scripted import Request, Script, ScriptedServer
from tests.gateway.whole import COMPATIBLE, PATIENCE_S, Gateway, gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = "openai-compatible/m"
PROMPT = "How long is this? " * 10
CONTENTS = [{"role": "user", "parts": [{"text": PROMPT}]}]
Sums = Callable[[Mapping[str, Any]], tuple[int, int]]


def openais(usage: Mapping[str, Any]) -> tuple[int, int]:
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    return usage["prompt_tokens"], usage["completion_tokens"]


def theirs(usage: Mapping[str, Any]) -> tuple[int, int]:
    return usage["input_tokens"], usage["output_tokens"]


def googles(usage: Mapping[str, Any]) -> tuple[int, int]:
    return usage["promptTokenCount"], usage["candidatesTokenCount"]


MESSAGES: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": PROMPT}]}
ASKED: dict[str, tuple[str, dict[str, Any], str, Sums]] = {
    "chat": ("/v1/chat/completions", MESSAGES, "usage", openais),
    "completions": ("/v1/completions", {"model": MODEL, "prompt": PROMPT}, "usage", openais),
    "messages": ("/v1/messages", {**MESSAGES, "max_tokens": 9}, "usage", theirs),
    "responses": ("/v1/responses", {"model": MODEL, "input": PROMPT}, "usage", theirs),
    "google": (f"/v1beta/models/{MODEL}:", {"contents": CONTENTS}, "usageMetadata", googles),
}


def uncounted(asked: Request) -> Script:
    """The answer of a server that counts nothing."""
    if asked.json().get("stream"):
        return Script(openai_stream(usage=False), content_type="text/event-stream")
    body = openai_body()
    del body["usage"]
    if asked.path.endswith("/completions") and "prompt" in asked.json():
        body["choices"] = [{"index": 0, "text": "All of it.", "finish_reason": "stop"}]
    return Script.json(body)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Gateway, Path]]:
    data_dir = tmp_path_factory.mktemp("estimated") / "logs"
    async with ScriptedServer() as upstream:
        upstream.script(COMPATIBLE, uncounted)
        upstream.script("POST /v1/completions", uncounted)
        async with gateway(data_dir, upstream.base_url) as running:
            yield running, data_dir
    assert replay(["verify", "--data-dir", str(data_dir)], {}) == 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("protocol", ASKED)
async def test_the_client_is_told_what_the_log_has(served: tuple[Gateway, Path], protocol: str, stream: bool) -> None:
    gate, (path, body, field, sums) = served[0], ASKED[protocol]
    if protocol == "google":
        path += "streamGenerateContent?alt=sse" if stream else "generateContent"
    elif stream:
        body = {**body, "stream": True}
        if field == "usage" and sums is openais:
            body["stream_options"] = {"include_usage": True}
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with aiohttp.ClientSession(gate.url, timeout=timeout) as session:
        async with session.post(path, json=body) as answer:
            said, request_id = await answer.read(), answer.headers["x-request-id"]
            assert answer.status == 200, said
        recorded = await gate.generation(request_id)
        assert recorded["usage_source"] == "estimated"
        assert sums(usage_in(said, field, stream)) == (recorded["tokens_input"], recorded["tokens_output"])
        assert recorded["tokens_input"] > 40
        async with session.get(f"/v1/requests/{request_id}/stream") as answer:
            assert await answer.read() == said


def usage_in(said: bytes, field: str, stream: bool) -> dict[str, Any]:
    """The last that is told of it."""
    lines = [line[6:] for line in said.split(b"\n") if line.startswith(b"data: {")] if stream else [said]
    events = [json.loads(line) for line in lines]
    found = [usage for event in events if (usage := event.get(field) or (event.get("response") or {}).get(field))]
    assert isinstance(found[-1], dict)
    return found[-1]
