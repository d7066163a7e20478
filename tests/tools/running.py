"""What the tests of tools share: a server with tools, questions to it, and what the log has of them."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.gateway.whole import PATIENCE_S, Gateway, gateway
from tests.ports import free_port
from tests.serverprocess import ROOT

FUNCTIONS = ("--tools", "tests.tools.functions")
NOBODY = "http://127.0.0.1:9"
SERVER = [sys.executable, "-m", "tests.tools.mcp_server"]


class Tooled:
    """A running server, and a client of it."""

    def __init__(self, gate: Gateway, client: aiohttp.ClientSession) -> None:
        self.gate, self.client = gate, client

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """(status, JSON) of one request."""
        async with self.client.request(method, f"{self.gate.url}/v1/tools{path}", json=body, headers=headers) as answer:
            return answer.status, await answer.json()

    async def tried(self) -> None:
        """Wait until each MCP server was tried once: a start does so for a few seconds only."""
        async with asyncio.timeout(PATIENCE_S):
            while any(each["status"] == "connecting" for each in (await self.ask("GET", ""))[1]["mcp_servers"]):
                await asyncio.sleep(0.05)

    async def execute(self, name: str, arguments: Any = None) -> dict[str, Any]:
        """What running a tool gives."""
        status, said = await self.ask("POST", "/execute", {"name": name, "arguments": arguments or {}})
        assert status == 200, said
        return dict(said)

    async def recorded(self, stream: str) -> list[dict[str, Any]]:
        """The events of a stream."""
        return [event.body for event in await self.gate.server.log.read_stream(stream)]

    async def until(self, stream: str, type_: str) -> list[dict[str, Any]]:
        """The same, once it has an event of this type."""
        async with asyncio.timeout(PATIENCE_S):
            async for _ in self.gate.server.log.follow(0):
                events = await self.recorded(stream)
                if any(event["type"] == type_ for event in events):
                    return events
        raise AssertionError(type_)


@asynccontextmanager
async def tooled(
    data_dir: Path, *args: str, upstream: str = NOBODY, env: Mapping[str, str] | None = None, **options: Any
) -> AsyncIterator[Tooled]:
    """A server with the tests' functions as tools, for as long as the block lasts."""
    async with (
        gateway(data_dir, upstream, *FUNCTIONS, *args, env=env, **options) as gate,
        aiohttp.ClientSession() as client,
    ):
        server = Tooled(gate, client)
        if "--mcp" in args:
            await server.tried()
        yield server


def mcp_file(path: Path, servers: Mapping[str, Any]) -> Path:
    """A file as MCP's clients have it."""
    path.write_text(json.dumps({"mcpServers": servers}))
    return path


def over_stdio(**env: str) -> dict[str, Any]:
    """The tests' MCP server, started by whoever uses it."""
    return {"command": SERVER[0], "args": [*SERVER[1:], "stdio"], "env": {"PYTHONPATH": str(ROOT), **env}}


@asynccontextmanager
async def over_http() -> AsyncIterator[str]:
    """The tests' MCP server as a process of its own; its URL."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *SERVER, "http", str(port), cwd=ROOT, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    break
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.kill()
        await process.wait()
