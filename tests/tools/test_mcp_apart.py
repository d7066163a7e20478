"""MCP servers that say what no library would, over stdio: what they spoil is their own."""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.tools import mcp_client
from gateway.tools.mcp_client import McpConnection
from gateway.tools.mcp_stdio import LONGEST_MESSAGE, LONGEST_REMARK, MOST_REMARKS
from tests.gateway.whole import PATIENCE_S
from tests.serverprocess import ROOT, server_process
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


async def test_a_server_that_answers_no_call_is_given_up_while_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp_client, "LOOK_S", 0.1)
    env = {"ABSTRACTCORE_TOOL_TIMEOUT": "0.4"}
    gate = str(tmp_path / "gate")
    config = str(raw(tmp_path, "busy", GATE=gate))
    async with tooled(tmp_path / "logs", "--mcp", config, env=env) as server:
        monkeypatch.setattr(mcp_client, "CONNECT_S", 0.5)

        async def call_on(after_s: float) -> None:
            await asyncio.sleep(after_s)
            while (await server.ask("POST", "/execute", {"name": "raw__busy"}))[0] == 200:
                pass

        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(call_on(place * 0.1) for place in range(4)))
    assert living(gate) == []  # not even the one that is being seen off as the gateway ends


def living(gate: str) -> list[int]:
    """The processes whose gate that is."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and f"GATE={gate}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found


async def run(tmp_path: Path, how: str, **env: str) -> dict[str, Any]:
    """What the only tool of such a server gives; it has to give it twice."""
    async with tooled(tmp_path / "logs", "--mcp", str(raw(tmp_path, how, **env))) as server:
        first, second = await server.execute(f"raw__{how}"), await server.execute(f"raw__{how}")
        assert (first["output"], first["error"]) == (second["output"], second["error"])
        return first


@pytest.mark.parametrize(("how", "said"), [("latin", "caf\ufffd"), ("half", "?!"), ("chatty", "ok")])
async def test_what_is_no_text_costs_itself_and_no_more(tmp_path: Path, how: str, said: str) -> None:
    assert (await run(tmp_path, how))["output"] == said


async def test_what_is_no_message_is_told_of_once_and_without_its_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await run(tmp_path, "chatty")
    assert [said.getMessage() for said in caplog.records if said.name.startswith(("gateway.tools", "mcp"))] == [
        "the MCP server raw says what is no message; that is left out"
    ]


async def test_a_long_message_is_read_and_one_without_end_is_not(tmp_path: Path) -> None:
    ran = await run(tmp_path, "large", SIZE=str(LONGEST_MESSAGE // 2))
    assert (ran["cut"], ran["is_error"]) == (True, False)
    async with tooled(tmp_path / "more", "--mcp", str(raw(tmp_path, "large", SIZE=str(LONGEST_MESSAGE * 2)))) as server:
        assert (await server.execute("raw__large"))["is_error"]


async def test_what_a_server_mutters_is_logged_without_secrets_and_only_so_much_of_it(tmp_path: Path) -> None:
    args = ("--nats", "off", "--mcp", str(raw(tmp_path, "mutters", TOKEN="${MCP_TOKEN}")))
    async with server_process(tmp_path / "logs", env={"MCP_TOKEN": CANARY}, args=args) as server:
        async with aiohttp.ClientSession() as client:
            await client.post(f"{server.url}/v1/tools/execute", json={"name": "raw__mutters"})
            async with asyncio.timeout(PATIENCE_S):
                while b"the MCP server raw: that was it" not in server.said:
                    await asyncio.sleep(0.05)
        assert b"the MCP server raw: my token is redacted:" in server.said
        assert CANARY.encode()[:8] not in server.said


async def test_a_flood_on_standard_error_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert (await run(tmp_path, "raves"))["output"] == "ok"
    said = [record.getMessage() for record in caplog.records if "x" * 100 in record.getMessage()]
    assert (len(said), max(map(len, said)) < LONGEST_REMARK + 50) == (MOST_REMARKS, True)


async def test_a_server_that_does_not_end_is_ended_with_its_children(tmp_path: Path) -> None:
    await run(tmp_path, "clings", PIDS=str(tmp_path / "pids"))
    for pid in (tmp_path / "pids").read_text().split():
        async with asyncio.timeout(PATIENCE_S):
            while Path(f"/proc/{pid}/stat").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text():
                await asyncio.sleep(0.05)


RESULTS = [
    ("structured", None, '{"sky":"clear"}'),
    ("both", None, "t"),
    ("resource", None, "t\nin a file"),
    ("blob", None, "[resource]"),
    ("link", None, "[resource_link: file:///a]"),
    ("image", None, "[image]"),
    ("nothing", "tool_error", "The tool's server answered with what is no result of a tool."),
    ("prose", "tool_error", "The tool's server answered with what is no result of a tool."),
    ("evil", None, "t"),
    ("unstructured", None, "t"),
]


async def test_a_model_is_told_what_a_result_says(tmp_path: Path) -> None:
    async with tooled(tmp_path / "logs", "--mcp", str(raw(tmp_path, "results"))) as server:
        for name, error, said in RESULTS:
            ran = await server.execute(f"raw__{name}")
            assert (name, ran["error"], ran["output"]) == (name, error, said)


@pytest.mark.parametrize(("how", "times"), [("names", 3), ("none", 6)])
async def test_what_is_left_out_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, how: str, times: int
) -> None:
    looks: asyncio.Queue[None] = asyncio.Queue()
    listed = McpConnection._list

    async def look(connection: McpConnection, client: Any) -> None:
        await listed(connection, client)
        looks.put_nowait(None)

    monkeypatch.setattr(McpConnection, "_list", look)
    monkeypatch.setattr(mcp_client, "LOOK_S", 0.05)
    async with tooled(tmp_path / "logs", "--mcp", str(raw(tmp_path, how))) as server:
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(3):
                await looks.get()
        _, listed_now = await server.ask("GET", "")
        assert "raw__fine" in [tool["name"] for tool in listed_now["data"]]
    said = [record.getMessage() for record in caplog.records if "is left out" in record.getMessage()]
    assert len(said) == times, said
    assert not any("\n" in each or len(each) > 300 for each in said)
