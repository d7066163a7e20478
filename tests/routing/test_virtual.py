"""Virtual models on a running server whose providers are scripted: where requests go, and what is recorded of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.clients.front import PLACES, Front, front, saying
from tests.gateway.scripted import Script

GPT, CLAUDE, QWEN = "openai/gpt-4o-mini", "anthropic/claude-sonnet-4-5", "ollama/qwen3:4b"
MEMBERS = f'members = ["{GPT}", "{CLAUDE}", "{QWEN}"]'
FAILING = Script.json({"error": {"message": "no", "type": "server_error"}}, status=500)
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}


def table(name: str, strategy: str, *lines: str) -> str:
    return "\n".join([f"[models.{name}]", f'strategy = "{strategy}"', *(lines or (MEMBERS,)), ""])


@asynccontextmanager
async def routed(home: Path, *tables: str, args: tuple[str, ...] = ()) -> AsyncIterator[Client]:
    """A server with these virtual models, whose providers say their names."""
    (home / "models.toml").write_text("\n".join(tables))
    given = ("--nats", "off", "--config", str(home / "models.toml"), *args)
    async with front(home, args=given) as server, aiohttp.ClientSession() as session:
        for provider in PLACES:
            server.say(provider, provider)
        yield Client(server, session, home / "models.toml")


class Client:
    """Asks the server, and looks at what it recorded."""

    def __init__(self, server: Front, session: aiohttp.ClientSession, file: Path) -> None:
        self.server, self.file, self._session = server, file, session

    async def ask(self, model: str = "auto", content: Any = "hi", **fields: Any) -> Answer:
        body = {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 9, **fields}
        async with self._session.post(f"{self.server.url}/chat/completions", json=body) as answer:
            return Answer(answer.status, await answer.json(), answer.headers["x-request-id"])

    async def providers(self, count: int, model: str = "auto") -> Counter[str]:
        """Who answered so many requests."""
        return Counter([(await self.ask(model)).text for _ in range(count)])

    async def event(self, answer: Answer, kind: str) -> dict[str, Any]:
        """The first of this type among those of a request."""
        found = (await self.get(f"/v1/requests/{answer.request_id}/events"))["data"]
        event: dict[str, Any] = next(event for event in found if event["type"] == kind)
        return event

    async def get(self, path: str) -> dict[str, Any]:
        async with self._session.get(f"{self.server.process.url}{path}") as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def becomes(self, path: str, **wanted: Any) -> dict[str, Any]:
        """What is there once it says so."""
        async with asyncio.timeout(20):
            while not wanted.items() <= (found := await self.get(path)).items():
                await asyncio.sleep(0.1)
            return found


class Answer:
    def __init__(self, status: int, body: dict[str, Any], request_id: str) -> None:
        self.status, self.body, self.request_id = status, body, request_id

    @property
    def text(self) -> str:
        """What the model said, or the error's code."""
        if self.status != 200:
            return str(self.body["error"]["code"])
        return str(self.body["choices"][0]["message"]["content"])


async def test_weighted_requests_are_shared_by_weight(tmp_path: Path) -> None:
    members = f'members = [{{model = "{GPT}", weight = 3}}, "{CLAUDE}"]'
    async with routed(tmp_path, table("auto", "weighted", members)) as client:
        found = await client.providers(200)
        assert 150 - 35 <= found["openai"] <= 150 + 35  # over five standard deviations
        assert found["openai"] + found["anthropic"] == 200
        answer = await client.ask()
        route = await client.event(answer, "route_selected")
        assert (route["reason"], route["inputs"]["virtual"], route["inputs"]["strategy"]) == (
            "virtual",
            "auto",
            "weighted",
        )
        assert (await client.event(answer, "request_received"))["model"] == answer.body["model"] == "auto"
        assert 0 <= route["inputs"]["draw"] < 1
        assert route["inputs"]["candidates"][0]["model"] == f"{route['provider']}/{route['model']}"


async def test_the_cheapest_and_the_fastest_of_three(tmp_path: Path) -> None:
    members = f'members = ["{CLAUDE}", "{GPT}", "vllm/qwen"]'
    async with routed(
        tmp_path, table("cheap", "cheapest", f'members = ["{CLAUDE}", "{GPT}"]'), table("fast", "fastest", members)
    ) as client:
        for provider, delay_s in (("anthropic", 0.03), ("openai", 0.0), ("vllm", 0.08)):
            client.server.answer(provider, saying_late(provider, delay_s))
        assert await client.providers(20, "cheap") == {"openai": 20}
        found = await client.providers(60, "fast")
        assert set(found) == {"openai", "anthropic", "vllm"}  # each is tried once at least
        assert found["openai"] >= 40
        print(dict(found))


def saying_late(provider: str, delay_s: float) -> Script:
    return replace(saying(PLACES[provider].family, provider), delay_s=delay_s)


async def test_the_next_member_answers_where_the_first_fails(tmp_path: Path) -> None:
    async with routed(tmp_path, table("auto", "fallback")) as client:
        client.server.answer("openai", FAILING)
        answer = await client.ask()
        assert answer.text == "anthropic"
        assert (await client.event(answer, "fallback_selected"))["inputs"]["fallback"] == [CLAUDE, QWEN]


async def test_a_member_that_is_known_to_be_unable_is_skipped_with_the_reason(tmp_path: Path) -> None:
    members = f'members = ["nobody/x", "{QWEN}", "{GPT}"]'
    async with routed(tmp_path, table("auto", "fallback", members)) as client:
        tags = {"models": [{"name": "qwen3:4b", "capabilities": ["completion"]}]}
        client.server.upstream.script(PLACES["ollama"].models, Script.json(tags))
        assert (await client.ask()).text == "ollama"
        await client.server.process.restart()
        answer = await client.ask(content=[{"type": "text", "text": "what is this?"}, IMAGE])
        route = await client.event(answer, "route_selected")
        assert answer.text == "openai"
        skipped = {each["model"]: each.get("skipped") for each in route["inputs"]["candidates"]}
        assert skipped == {GPT: None, "nobody/x": "no_provider", QWEN: "no_vision"}
