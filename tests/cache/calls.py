"""A server before one scripted upstream that has prices, and a client that can look at what it gets as it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from gateway.server import Server
from tests.gateway.scripted import ScriptedServer
from tests.gateway.whole import PATIENCE_S, Gateway, chat, gateway

CHAT = "POST /v1/chat/completions"
PRICED = "openai/gpt-4o-mini"


def environ_priced(base_url: str) -> dict[str, str]:
    return {"OPENAI_BASE_URL": f"{base_url}/v1", "OPENAI_API_KEY": "sk-for-the-test"}


@dataclass
class Answer:
    """A whole answer."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def request_id(self) -> str:
        return self.headers["x-request-id"]


class Coming:
    """An answer as it comes."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.request_id = response.headers["x-request-id"]
        self.headers = {name.lower(): value for name, value in response.headers.items()}
        self.body, self.whole = b"", False

    async def until(self, word: bytes) -> None:
        while word not in self.body:
            data = await self._response.content.readany()
            assert data, f"it ended before {word!r}: {self.body[-300:]!r}"
            self.body += data

    async def rest(self) -> bytes:
        """What is still to come; it is `whole` where the server ended it."""
        before = len(self.body)
        self.body += await self._response.content.read()
        self.whole = True
        return self.body[before:]

    def leave(self) -> None:
        self._response.close()


class Caller:
    """A client of the server."""

    def __init__(self, url: str, client: aiohttp.ClientSession) -> None:
        self._url, self._client = url, client

    async def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Answer:
        async with self._client.post(self._url + path, json=body, headers=headers) as answer:
            return Answer(answer.status, await answer.read(), {k.lower(): v for k, v in answer.headers.items()})

    async def ask(
        self, *, headers: Mapping[str, str] | None = None, path: str = "/v1/chat/completions", **fields: Any
    ) -> Answer:
        return await self.post(path, chat(**{"model": PRICED, **fields}), headers)

    async def begin(
        self, headers: Mapping[str, str] | None = None, path: str = "/v1/chat/completions", **fields: Any
    ) -> Coming:
        body = chat(**{"model": PRICED, **fields})
        return Coming(await self._client.post(self._url + path, json=body, headers=headers))

    async def stop(self, request_id: str, reason: str | None = None) -> Any:
        answer = await self.post(f"/v1/requests/{request_id}/stop", {} if reason is None else {"reason": reason})
        assert answer.status == 200, answer.body
        return answer.json

    async def again(self, request_id: str) -> bytes:
        """The answer as the log gives it back."""
        return (await self.get(f"/v1/requests/{request_id}/stream")).body

    async def get(self, path: str) -> Answer:
        async with self._client.get(self._url + path) as answer:
            return Answer(answer.status, await answer.read(), {k.lower(): v for k, v in answer.headers.items()})


@asynccontextmanager
async def serving(
    tmp_path: Path, upstream: ScriptedServer, *args: str, kind: type[Server] = Server
) -> AsyncIterator[tuple[Gateway, Caller]]:
    """A server with its log in `tmp_path / "logs"`."""
    env = environ_priced(upstream.base_url)
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with (
        gateway(tmp_path / "logs", upstream.base_url, *args, kind=kind, env=env) as served,
        aiohttp.ClientSession(timeout=timeout) as client,
    ):
        yield served, Caller(served.url, client)
