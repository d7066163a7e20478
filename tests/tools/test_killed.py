"""The server is killed while its tools run: at the next start each has its one end, and so has its request."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp

from eventstore.reader import Reader
from eventstore.rows import FILE
from replay.cli import run as replay
from tests.crash.load import environ
from tests.gateway.scripted import ScriptedServer
from tests.gateway.whole import COMPATIBLE, PATIENCE_S, chat
from tests.serverprocess import server_process
from tests.tools.running import FUNCTIONS
from tests.tools.test_loop import call, calling


def types(data_dir: Path, stream: str) -> list[str]:
    with Reader(data_dir / FILE) as reader:
        return [event.type for event in reader.read_stream(stream)]


async def begun(data_dir: Path, stream: str) -> None:
    """Wait until a tool has started, by the log."""
    async with asyncio.timeout(PATIENCE_S):
        while "tool_started" not in types(data_dir, stream):
            await asyncio.sleep(0.05)


async def test_killed_in_a_tool(tmp_path: Path) -> None:
    data_dir = tmp_path / "logs"
    async with ScriptedServer() as upstream:
        upstream.script(COMPATIBLE, calling(call("patient"), text="A moment."))
        args = ("--nats", "off", *FUNCTIONS)
        async with server_process(data_dir, env=environ(upstream.base_url), args=args) as server:
            async with aiohttp.ClientSession() as client:
                body = chat(execute_tools=True, stream=True)
                answer = await client.post(f"{server.url}/v1/chat/completions", json=body)
                stream = f"request-{answer.headers['x-request-id']}"
                direct = asyncio.create_task(client.post(f"{server.url}/v1/tools/execute", json={"name": "patient"}))
                await begun(data_dir, stream)
                await begun(data_dir, "tool-patient")
                got = await answer.content.readuntil(b"A moment.")
                await server.kill()
                await asyncio.wait((direct,))
            assert b"A moment." in got
            await server.start()
            assert types(data_dir, stream)[-3:] == ["tool_started", "tool_failed", "request_interrupted"]
            assert types(data_dir, "tool-patient") == ["tool_started", "tool_failed"]
            with Reader(data_dir / FILE) as reader:
                end = reader.read_stream(stream)[-1].body
            assert end["payload_length"] > 0
        assert replay(["verify", "--data-dir", str(data_dir)], {}) == 0
