"""MCP servers over HTTP whose answers are too long for anybody: they cost their own call and no more."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import orjson
import pytest
from aiohttp import web

from gateway.tools import mcp_client
from gateway.tools.mcp_client import McpConnection
from gateway.tools.mcp_config import McpServer
from gateway.tools.mcp_stdio import LONGEST_MESSAGE
from tests.gateway.whole import PATIENCE_S
from tests.serverprocess import server_process
from tests.tools.raw_mcp import VERSION, tool
from tests.tools.running import mcp_file, tooled

TOOLS = ("short", "long", "endless", "packed", "bomb", "garbage")


async def answer(request: web.Request) -> web.StreamResponse:
    """What the server says to a message, in which it was asked not to pack anything."""
    assert request.headers["accept-encoding"] == "identity"
    asked = orjson.loads(await request.read())
    call_id = asked.get("id")
    if call_id is None:
        return web.Response(status=202)
    if asked["method"] == "initialize":
        about = {"name": "raw", "version": "1"}
        hello = said(call_id, {"protocolVersion": VERSION, "capabilities": {"tools": {}}, "serverInfo": about})
        hello.headers["mcp-session-id"] = "1"
        return hello
    if asked["method"] == "tools/list":
        return said(call_id, {"tools": [*(tool(name) for name in TOOLS), tool("any", inputSchema={})]})
    if asked["method"] != "tools/call":
        return web.json_response({"jsonrpc": "2.0", "id": call_id, "error": {"code": -32601, "message": "no"}})
    how = asked["params"]["name"]
    if how == "garbage":
        return web.Response(body=b"data: nonsense\n\n", content_type="text/event-stream")
    if how == "endless":
        response = web.StreamResponse(headers={"content-type": "application/json"})
        await response.prepare(request)
        while True:
            await response.write(b" " * 65_536)
    length = {"short": 1, "packed": 1, "long": LONGEST_MESSAGE // 2, "bomb": LONGEST_MESSAGE * 2}[how]
    return said(call_id, {"content": [{"type": "text", "text": "a" * length}]}, packed=how in ("packed", "bomb"))


async def hold(request: web.Request) -> web.Response:
    """Never lets a session go."""
    await asyncio.Event().wait()
    return web.Response()


def said(call_id: int, result: object, packed: bool = False) -> web.Response:
    body = orjson.dumps({"jsonrpc": "2.0", "id": call_id, "result": result})
    headers = {"content-type": "application/json", **({"content-encoding": "gzip"} if packed else {})}
    return web.Response(body=gzip.compress(body) if packed else body, headers=headers)


@asynccontextmanager
async def raw_server() -> AsyncIterator[str]:
    """The server; its URL."""
    app = web.Application()
    app.router.add_post("/mcp", answer)
    app.router.add_delete("/mcp", hold)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/mcp"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("how", "length"), [("short", 1), ("long", 65_536), ("endless", None), ("packed", None), ("bomb", None)]
)
async def test_an_answer_is_as_long_as_a_message_may_be(tmp_path: Path, how: str, length: int | None) -> None:
    async with raw_server() as url:
        config = mcp_file(tmp_path / "mcp.json", {"raw": {"url": url}})
        async with tooled(tmp_path / "logs", "--mcp", str(config)) as server:
            ran = await server.execute(f"raw__{how}")
            assert (ran["is_error"], len(ran["output"]) == length) == (length is None, length is not None), ran
            assert (await server.execute("raw__short"))["output"] == "a"


async def test_a_broken_server_writes_no_tracebacks(tmp_path: Path) -> None:
    async with raw_server() as url:
        args = ("--nats", "off", "--mcp", str(mcp_file(tmp_path / "mcp.json", {"raw": {"url": url}})))
        async with server_process(tmp_path / "logs", env={}, args=args) as server, aiohttp.ClientSession() as client:
            for how in ("garbage", "endless"):
                body = {"name": f"raw__{how}"}
                async with client.post(f"{server.url}/v1/tools/execute", json=body) as answered:
                    assert (await answered.json())["is_error"]
        assert b"Traceback" not in server.said


async def test_a_server_that_holds_on_to_a_session_keeps_nobody_waiting(tmp_path: Path) -> None:
    ended = asyncio.Event()
    async with raw_server() as url, asyncio.timeout(PATIENCE_S):
        connection = McpConnection(McpServer(name="raw", url=url))
        running = asyncio.create_task(connection.run())
        running.add_done_callback(lambda _: ended.set())
        await connection.tried.wait()
        assert connection.status == "connected"
        running.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (connection.status, connection.offered, ended.is_set()) == ("unreachable", {}, False)
        await ended.wait()


async def test_a_client_that_bounds_nothing_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a bug put in: any answer is read to its end."""

    async def unbounded(response: object) -> None:
        """Looks at nothing."""

    monkeypatch.setattr(mcp_client, "bounded", unbounded)
    async with raw_server() as url:
        config = mcp_file(tmp_path / "mcp.json", {"raw": {"url": url}})
        async with tooled(tmp_path / "logs", "--mcp", str(config)) as server:
            assert not (await server.execute("raw__bomb"))["is_error"]
