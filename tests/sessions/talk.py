"""Conversations with a server that keeps them, and the upstream that hears what it is told of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from eventstore.envelope import RecordedEvent
from gateway.server import Server
from tests.crash.load import openai_body, openai_stream
from tests.gateway.scripted import Request, Script, ScriptedServer
from tests.gateway.whole import Gateway, gateway

MODEL = "openai-compatible/m"
CHAT = "POST /v1/chat/completions"


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


def answering(request: Request) -> Script:
    """Says `re: ` and the last message; streamed, some words."""
    asked = request.json()
    if asked.get("stream"):
        return Script(openai_stream(3), content_type="text/event-stream")
    return Script.json(openai_body(f"re: {asked['messages'][-1]['content']}"))


@dataclass
class Answer:
    """An answer of the server."""

    status: int
    body: Any
    headers: dict[str, str]

    @property
    def text(self) -> str:
        text: str = self.body["choices"][0]["message"]["content"]
        return text

    @property
    def context(self) -> dict[str, int]:
        """What `x-abstractcore-context` says."""
        return {k: int(v) for k, _, v in (x.partition("=") for x in self.headers["x-abstractcore-context"].split("; "))}


class Conversation:
    """One session of a server."""

    def __init__(self, talk: Talk, session_id: str) -> None:
        self._talk, self.id, self.path = talk, session_id, f"/v1/sessions/{session_id}"

    async def say(self, text: str, wait: int | None = None, **fields: Any) -> Answer:
        """The next turn."""
        path = f"{self.path}/chat" + ("" if wait is None else f"?wait={wait}")
        return await self._talk.post(path, {"messages": [user(text)], **fields})

    async def post(self, what: str, **body: Any) -> Answer:
        """Something done to it."""
        return await self._talk.post(f"{self.path}/{what}", body)

    async def fork(self, **body: Any) -> Conversation:
        """A new one that goes on from it."""
        return Conversation(self._talk, (await self.post("fork", **body)).body["id"])

    async def info(self) -> dict[str, Any]:
        """What the server says of it."""
        found: dict[str, Any] = (await self._talk.get(self.path)).body
        return found

    async def turns(self) -> list[dict[str, Any]]:
        """Its turns, as reported."""
        found: list[dict[str, Any]] = (await self._talk.get(f"{self.path}/turns")).body["data"]
        return found

    async def messages(self) -> list[dict[str, Any]]:
        """What it goes on from."""
        found: list[dict[str, Any]] = (await self._talk.get(f"{self.path}/messages")).body["data"]
        return found


class Talk:
    """A server's client."""

    def __init__(self, url: str, client: aiohttp.ClientSession) -> None:
        self.url, self.client = url, client

    async def post(self, path: str, body: Any, **headers: str) -> Answer:
        return await self._call("POST", path, json=body, headers=headers)

    async def get(self, path: str) -> Answer:
        return await self._call("GET", path)

    async def delete(self, path: str) -> Answer:
        return await self._call("DELETE", path)

    async def open(self, **fields: Any) -> Conversation:
        """A new session."""
        answer = await self.post("/v1/sessions", {"model": MODEL, **fields})
        assert answer.status == 200, answer.body
        return Conversation(self, answer.body["id"])

    async def _call(self, method: str, path: str, **options: Any) -> Answer:
        async with self.client.request(method, self.url + path, **options) as answer:
            is_json = answer.content_type == "application/json"
            body = await answer.json() if is_json else await answer.text()
            return Answer(answer.status, body, {name.lower(): value for name, value in answer.headers.items()})


class Place(Talk):
    """A server in this process, its upstream and its log."""

    def __init__(self, running: Gateway, upstream: ScriptedServer, client: aiohttp.ClientSession) -> None:
        super().__init__(running.url, client)
        self.gateway, self.upstream = running, upstream

    @property
    def told(self) -> list[dict[str, Any]]:
        """The messages of the last call to the upstream."""
        messages: list[dict[str, Any]] = self.upstream.requests[-1].json()["messages"]
        return messages

    async def stream(self, name: str) -> list[RecordedEvent]:
        """What the log has of a session."""
        return await self.gateway.server.log.read_stream(name)


@asynccontextmanager
async def place(data_dir: Path, *args: str, kind: type[Server] = Server) -> AsyncIterator[Place]:
    """A server before an upstream that answers everything."""
    async with (
        ScriptedServer() as upstream,
        gateway(data_dir, upstream.base_url, *args, kind=kind) as running,
        aiohttp.ClientSession() as client,
    ):
        upstream.script(CHAT, answering)
        upstream.script("GET /v1/models", Script.json({"data": [{"id": "m", "context_length": 2000}]}))
        yield Place(running, upstream, client)
