"""MCP servers that say what no library would, over stdio: what they spoil is their own."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.tools import mcp_client
from gateway.tools.mcp_client import McpConnection
from tests.gateway.whole import PATIENCE_S
from tests.serverprocess import ROOT
from tests.tools.running import mcp_file, tooled

CANARY = "canary-of-mcp-1234567890"


def raw(tmp_path: Path, how: str, **env: str) -> Path:
    """The file of a server that does so."""
    entry = {"command": sys.executable, "args": ["-m", "tests.tools.raw_mcp", how]}
    return mcp_file(tmp_path / "mcp.json", {"raw": {**entry, "env": {"PYTHONPATH": str(ROOT), **env}}})


async def test_a_server_that_is_busy_with_a_call_is_not_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: asyncio.Queue[None] = asyncio.Queue()
    listed = McpConnection._list

    async def look(connection: McpConnection, client: Any) -> None:
        try:
            await listed(connection, client)
        except asyncio.CancelledError:
            looks.put_nowait(None)
            raise

    monkeypatch.setattr(McpConnection, "_list", look)
    monkeypatch.setattr(mcp_client, "LOOK_S", 0.1)
    gate = tmp_path / "gate"
    async with tooled(tmp_path / "logs", "--mcp", str(raw(tmp_path, "busy", GATE=str(gate)))) as server:
        monkeypatch.setattr(mcp_client, "CONNECT_S", 0.2)
        running = asyncio.create_task(server.execute("raw__busy"))
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(2):
                await looks.get()
        gate.touch()
        assert (await running)["output"] == "done"
        assert (await server.execute("raw__busy"))["output"] == "done"
