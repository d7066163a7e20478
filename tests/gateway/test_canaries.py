"""Nothing secret on disk: the whole server with a canary in every place of the one list, then a search through every
byte that it wrote. The upstream says each key that it was sent back, in errors and in answers."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from gateway.command_line import load
from gateway.config import SETTINGS
from gateway.redaction import (
    CREDENTIAL_FIELDS,
    CREDENTIAL_HEADERS,
    CREDENTIAL_PARAMETERS,
    HEADER_FIELDS,
    URL_FIELDS,
    Redactor,
    load_key,
)
from gateway.server import Server

MARK = "c4n4ry"
WORD = "not-a-secret-word"


class Canaries:
    """Hands out secrets, each another, all with the mark."""

    def __init__(self) -> None:
        self._count = itertools.count(1)

    def new(self) -> str:
        return f"sk-{MARK}-{next(self._count):05}"


def secret_settings(canaries: Canaries) -> dict[str, str]:
    """An environment with a secret in every setting that takes one; nothing listens where the Redis is said to be."""
    secret = {name: canaries.new() for setting in SETTINGS if setting.secret for name in setting.env}
    return secret | {"ABSTRACTCORE_REDIS_URL": f"redis://:{canaries.new()}@127.0.0.1:1/0"}


@asynccontextmanager
async def tell_tale() -> AsyncIterator[str]:
    """An OpenAI-shaped upstream that repeats the key it was sent: in a refusal, in a whole answer, in a stream."""

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        said = f"{WORD} {request.headers.get('Authorization', '')}"
        match body["messages"][0]["content"]:
            case "refuse":
                return web.json_response({"error": {"message": said, "type": "x", "code": None}}, status=401)
            case "redirect":
                return web.Response(status=302, headers={"Location": f"http://u:{MARK}@127.0.0.1:1/?key={MARK}"})
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        if not body.get("stream"):
            return web.json_response({"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})
        chunk = {"choices": [{"index": 0, "delta": {"content": said}, "finish_reason": "stop"}]}
        text = f"data: {orjson.dumps(chunk).decode()}\n\ndata: [DONE]\n\n"
        return web.Response(text=text, content_type="text/event-stream")

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


@dataclass
class Asked:
    """One request to send: query, headers, body, and where to."""

    query: str
    headers: dict[str, str]
    body: dict[str, Any]
    path: str = "/v1/chat/completions"


def requests(canaries: Canaries, upstream: str) -> Iterator[Asked]:
    """A canary in every place."""

    def usual(prompt: str = "answer", **fields: Any) -> dict[str, Any]:
        return {"model": "openai-compatible/m", "messages": [{"role": "user", "content": prompt}], **fields}

    for prompt, stream in itertools.product(("answer", "refuse", "redirect"), (False, True)):
        yield Asked("", {}, usual(prompt, stream=stream))
        yield Asked("", {}, usual(prompt, stream=stream, api_key=canaries.new()))
        yield Asked("", {}, usual(prompt, stream=stream, api_key=canaries.new(), base_url=upstream))
    for header in sorted(CREDENTIAL_HEADERS | {"x-unheard-of", "referer", "x-stainless-unheard-of"}):
        yield Asked("", {header: canaries.new()}, usual())
    for parameter in sorted(CREDENTIAL_PARAMETERS):
        yield Asked(f"?{parameter}={canaries.new()}", {}, usual())
    for field in sorted(CREDENTIAL_FIELDS):
        yield Asked("", {}, usual(**{field: canaries.new()}))
        yield Asked("", {}, usual(tools=[{"type": "mcp", field: canaries.new()}], extra_body={field: canaries.new()}))
    for field in sorted(HEADER_FIELDS):
        yield Asked("", {}, usual(tools=[{"type": "mcp", field: {"X-Any": canaries.new()}}]))
    for field in sorted(URL_FIELDS):
        yield Asked("", {}, usual(**{field: f"http://user:{canaries.new()}@127.0.0.1:1/?token={canaries.new()}"}))
    contents = {"contents": [{"parts": [{"text": "answer"}]}]}
    for method in ("generateContent", "streamGenerateContent", "countTokens", "noSuchMethod"):
        path = f"/v1beta/models/openai-compatible/m:{method}"
        yield Asked(f"?key={canaries.new()}", {"x-goog-api-key": canaries.new()}, contents, path)
        yield Asked("?alt=sse", {}, {**contents, "api_key": canaries.new()}, path)
        yield Asked("", {}, {**contents, "apiKey": canaries.new()}, path)


async def served(data_dir: Path, careless: bool = False) -> None:
    """Run the whole server through all of it, and end it in order."""
    canaries = Canaries()
    async with tell_tale() as upstream:
        environment = secret_settings(canaries)
        del environment["ABSTRACTCORE_API_KEY"]  # the callers here have none
        environment["OPENAI_COMPATIBLE_BASE_URL"] = upstream
        settings = load(["--port", "0", "--nats", "off", "--debug", "--data-dir", str(data_dir)], environment)
        server = Careless(settings) if careless else Server(settings)
        await server.start()
        try:
            async with aiohttp.ClientSession() as client:
                for asked in requests(canaries, upstream):
                    url = f"{server.url}{asked.path}{asked.query}"
                    async with client.post(url, json=asked.body, headers=asked.headers) as answer:
                        await answer.read()
                async with client.get(f"{server.url}/v1/metrics") as page:
                    assert MARK not in await page.text()
                async with client.get(f"{server.url}/v1/usage?group_by=key") as report:
                    assert MARK not in await report.text()
        finally:
            await server.stop()


class Blind(Redactor):
    """The deliberate bug: bodies are recorded as they come."""

    def body(self, body: dict[str, Any]) -> dict[str, Any]:
        return body


class Careless(Server):
    """A server that is given the blind one."""

    def _compose(self) -> None:
        self.redactor = Blind(load_key(self.settings.data_dir), self.settings.secrets())
        super()._compose()


def written(data_dir: Path, word: str) -> list[str]:
    """The files with the word in them."""
    return sorted(
        str(path.relative_to(data_dir))
        for path in data_dir.rglob("*")
        if path.is_file() and word.encode() in path.read_bytes()
    )


async def test_no_canary_is_in_any_file(tmp_path: Path) -> None:
    await served(tmp_path / "data")
    assert written(tmp_path / "data", MARK) == []
    assert written(tmp_path / "data", WORD)  # what was said around them is there: the search finds things


async def test_a_server_that_does_not_redact_bodies_is_caught(tmp_path: Path) -> None:
    await served(tmp_path / "data", careless=True)
    assert written(tmp_path / "data", MARK)
