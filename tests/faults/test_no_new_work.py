"""A disk that is nearly full takes no new work of any route, and what it refuses leaves nothing in the log."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.whole import COMPATIBLE, PATIENCE_S, Gateway, chat, gateway

TOOL = {"name": "forecast", "parameters": {"type": "object"}}
OTHER = {"base_url": "http://127.0.0.1:9/v1"}
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}
ANSWER = Script.json({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [CHOICE]})


class Client:
    """Asks the server."""

    def __init__(self, served: Gateway, session: aiohttp.ClientSession) -> None:
        self.log, self._url, self._session = served.server.log, served.url, session

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, str]]:
        async with self._session.request(method, self._url + path, json=body) as answer:
            return answer.status, await answer.json()

    async def fill(self) -> None:
        """From now on nothing is free."""
        self.log._space._free_bytes = lambda directory: 0
        async with asyncio.timeout(PATIENCE_S):
            while not self.log.full:
                await asyncio.sleep(0.01)


async def test_every_route_that_records_something_new_refuses_it(tmp_path: Path) -> None:
    flags, env = ("--tools", "tests.tools.functions"), {"ABSTRACTCORE_TOOL_URL_ALLOWLIST": "tools.test"}
    async with (
        ScriptedServer() as upstream,
        gateway(tmp_path / "logs", upstream.base_url, *flags, env=env) as served,
        aiohttp.ClientSession() as session,
    ):
        upstream.script(COMPATIBLE, ANSWER)
        client = Client(served, session)
        tool = {**TOOL, "endpoint": "https://tools.test/run"}
        _, opened = await client.ask("POST", "/v1/sessions", {"model": "openai-compatible/m"})
        _, response = await client.ask("POST", "/v1/responses", {"model": "openai-compatible/m", "input": "Hi"})
        assert (await client.ask("PUT", "/v1/providers/mine", OTHER))[0] == 200
        assert (await client.ask("POST", "/v1/tools/register", tool))[0] == 200
        await client.fill()
        before = await client.log.head()
        for method, path, body in (
            ("POST", "/v1/chat/completions", chat()),
            ("POST", "/v1/sessions", {"model": "openai-compatible/m"}),
            ("POST", f"/v1/sessions/{opened['id']}/chat", chat()),
            ("POST", f"/v1/sessions/{opened['id']}/fork", {}),
            ("POST", f"/v1/sessions/{opened['id']}/clear", {}),
            ("DELETE", f"/v1/sessions/{opened['id']}", None),
            ("DELETE", f"/v1/responses/{response['id']}", None),
            ("POST", "/v1/tools/execute", {"name": "weather", "arguments": {"city": "Brest"}}),
            ("POST", "/v1/tools/execute", {"name": "weather", "arguments": {"town": "Brest"}}),
            ("POST", "/v1/tools/register", {**tool, "name": "other"}),
            ("DELETE", "/v1/tools/forecast", None),
            ("PUT", "/v1/providers/other", OTHER),
            ("DELETE", "/v1/providers/mine", None),
        ):
            status, said = await client.ask(method, path, body)
            if status != 507:
                pytest.fail(f"{method} {path}: {status} {said}")
        assert await client.log.head() == before
        assert (await client.ask("GET", f"/v1/sessions/{opened['id']}"))[0] == 200
