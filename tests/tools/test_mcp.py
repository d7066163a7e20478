"""MCP servers, real ones by the official package: over stdio and over streamable HTTP."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.tools.mcp_client import McpConnection
from gateway.tools.mcp_config import McpServer, parse
from tests.gateway.whole import PATIENCE_S
from tests.tools.running import Tooled, mcp_file, over_http, over_stdio, tooled

CANARY = "canary-of-mcp-1234567890"


async def _use(server: Tooled) -> None:
    _, listed = await server.ask("GET", "")
    assert {"name": "al", "status": "connected"} in listed["mcp_servers"]
    moon = next(tool for tool in listed["data"] if tool["name"] == "al__moon")
    assert (moon["kind"], moon["source"]) == ("mcp", "al")
    assert moon["function"]["description"] == "The moon's phase on a day."
    assert (await server.execute("al__moon", {"day": "today"}))["output"] == "today: waxing"
    assert (await server.execute("al__moon", {}))["error"] == "bad_arguments"
    refused = await server.execute("al__refuse")
    assert refused["error"] == "tool_error"
    assert "no such day" in refused["output"]
    assert (await server.execute("al__count", {"to": 3}))["output"] == "counted to 3"
    events = await server.recorded("tool-al__count")
    assert [event["type"] for event in events] == ["tool_started", *["tool_progress"] * 3, "tool_completed"]
    assert [event.get("progress") for event in events[1:4]] == [1, 2, 3]


async def test_over_stdio(tmp_path: Path) -> None:
    config = mcp_file(tmp_path / "mcp.json", {"al": over_stdio(TOKEN="${MCP_TOKEN}")})
    async with tooled(tmp_path / "logs", "--mcp", str(config), env={"MCP_TOKEN": CANARY}) as server:
        await _use(server)
        ran = await server.execute("al__environment", {"name": "TOKEN"})
        assert ran["output"].startswith("redacted:"), "the tool has the secret, and nobody else is shown it"
    assert not [p for p in (tmp_path / "logs").rglob("*") if p.is_file() and CANARY.encode() in p.read_bytes()]


async def test_a_secret_that_stands_in_the_file_is_shown_to_nobody_either(tmp_path: Path) -> None:
    config = mcp_file(tmp_path / "mcp.json", {"al": over_stdio(ISSUES_TOKEN=CANARY)})
    async with tooled(tmp_path / "logs", "--mcp", str(config)) as server:
        ran = await server.execute("al__environment", {"name": "ISSUES_TOKEN"})
        assert ran["output"].startswith("redacted:")
        failed = await server.execute("al__mutter", {"name": "ISSUES_TOKEN"})
        assert "redacted:" in failed["output"]
        _, progress, end = await server.recorded("tool-al__mutter")
        assert (progress["type"], progress["message"]) == ("tool_progress", ran["output"])
        assert "redacted:" in end["message"]
        await server.execute("al__moon", {"day": CANARY})
        assert (await server.execute("al__count", {"to": CANARY}))["error"] == "bad_arguments"
    assert not [p for p in (tmp_path / "logs").rglob("*") if p.is_file() and CANARY.encode() in p.read_bytes()]


async def test_over_streamable_http_and_again_when_it_is_back(tmp_path: Path) -> None:
    async with over_http() as url:
        config = mcp_file(tmp_path / "mcp.json", {"al": {"url": url}})
        async with tooled(tmp_path / "logs", "--mcp", str(config)) as server:
            await _use(server)


async def test_a_server_that_is_lost_is_started_again(tmp_path: Path) -> None:
    config = mcp_file(tmp_path / "mcp.json", {"al": over_stdio()})
    async with tooled(tmp_path / "logs", "--mcp", str(config)) as server:
        lost = await server.execute("al__die")
        assert lost["is_error"]
        async with asyncio.timeout(PATIENCE_S):
            while (await server.ask("POST", "/execute", {"name": "al__moon", "arguments": {"day": "x"}}))[0] != 200:
                await asyncio.sleep(0.1)


async def test_a_server_that_is_not_there_keeps_nobody_waiting(tmp_path: Path) -> None:
    servers: dict[str, Any] = {"gone": {"command": "/no/such/command"}, "far": {"url": "http://127.0.0.1:9/mcp"}}
    config = mcp_file(tmp_path / "mcp.json", servers)
    async with tooled(tmp_path / "logs", "--mcp", str(config)) as server:
        _, listed = await server.ask("GET", "")
        assert {each["status"] for each in listed["mcp_servers"]} == {"unreachable"}
        assert (await server.ask("POST", "/execute", {"name": "gone__x"}))[0] == 404


async def test_an_outage_is_said_once_and_by_its_cause(caplog: pytest.LogCaptureFixture) -> None:
    tries: asyncio.Queue[None] = asyncio.Queue()

    def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tries.put_nowait(None)
        writer.close()

    listening = await asyncio.start_server(refuse, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/mcp"
    running = asyncio.create_task(McpConnection(McpServer(name="far", url=url)).run())
    async with listening, asyncio.timeout(PATIENCE_S):
        while len(warnings(caplog)) < 1 or tries.qsize() < 3:  # the third try: what there was to say of two is said
            await asyncio.sleep(0.05)
        running.cancel()
    assert len(warnings(caplog)) == 1
    assert "Group" not in warnings(caplog)[0]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [said.getMessage() for said in caplog.records if "cannot be reached" in said.getMessage()]


async def test_a_client_that_leaves_cancels_a_call_to_an_mcp_server(tmp_path: Path) -> None:
    config = mcp_file(tmp_path / "mcp.json", {"al": over_stdio()})
    async with tooled(tmp_path / "logs", "--mcp", str(config)) as server:
        waiting = asyncio.create_task(server.execute("al__wait"))
        await server.until("tool-al__wait", "tool_started")
        waiting.cancel()
        assert (await server.until("tool-al__wait", "tool_failed"))[-1]["kind"] == "cancelled"
        assert (await server.execute("al__moon", {"day": "x"}))["output"] == "x: waxing"


WRONG = [
    (b"{", "not JSON"),
    (b'{"mcpServers": {"a": {}}}', "either a command or a url"),
    (b'{"mcpServers": {"a b": {"command": "x"}}}', "no name"),
    (b'{"mcpServers": {"a_": {"command": "x"}}}', "no name"),
    (b'{"mcpServers": {"a": {"url": "http://x", "headers": {"Authorization": "Bearer abc"}}}}', "must name its secret"),
    (b'{"mcpServers": {"a": {"command": "x", "env": {"A": "${NOT_SET}"}}}}', "NOT_SET, which is not set"),
    (b'{"mcpServers": {"a": {"command": 1}}}', "command"),
    (b'{"mcpServers": {"a": {"type": "sse", "url": "http://x"}}}', "type: Input should be 'stdio', 'http'"),
]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_a_file_that_cannot_be_used_is_refused_in_words(text: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(text, {})


def test_variables_are_filled_in_and_known_as_secrets() -> None:
    text = b'{"mcpServers": {"a": {"url": "http://x", "headers": {"Authorization": "Bearer ${T}", "X-Region": "eu"}}}}'
    [server] = parse(text, {"T": CANARY})
    assert server.headers == {"Authorization": f"Bearer {CANARY}", "X-Region": "eu"}
    assert server.secrets == (CANARY,)
    assert CANARY not in repr(server)


SECRET = [
    ({"command": "x", "env": {"ISSUES_TOKEN": CANARY}}, CANARY),
    ({"command": "x", "env": {"API_KEY": CANARY, "LANG": "de_DE.UTF-8"}}, CANARY),
    ({"command": "x", "env": {"DATABASE": f"postgres://me:{CANARY}@db/x"}}, CANARY),
    ({"command": "x", "args": ["--api-key", CANARY, "--verbose"]}, CANARY),
    ({"command": "x", "args": [f"--token={CANARY}"]}, CANARY),
    ({"command": "x", "args": ["https://far.example/mcp", "--header", "Authorization: Bearer ${T}"]}, "from-variable"),
    ({"command": "x", "args": ["run", "-e", f"ISSUES_TOKEN={CANARY}", "image"]}, CANARY),
    ({"command": "x", "args": ["https://far.example/mcp", "--header", f"Authorization: Bearer {CANARY}"]}, CANARY),
    ({"command": "x", "args": [f"--header=X-Api-Key:{CANARY}"]}, CANARY),
    ({"command": "x", "args": [f"git+https://{CANARY}@far.example/x"]}, CANARY),
    ({"command": "x", "env": {"ISSUES_TOKEN_2": CANARY}}, CANARY),
    ({"url": f"https://me:{CANARY}@far.example/mcp"}, CANARY),
    ({"url": f"https://{CANARY}@far.example/mcp"}, CANARY),
    ({"url": f"https://far.example/mcp?page=1&access_token={CANARY}"}, CANARY),
]
INNOCENT = [
    {"command": "x", "args": ["--key", "--verbose", "--author=Jane"], "env": {"AUTHOR": "Jane", "KEYBOARD": "de"}},
    {"command": "x", "args": ["LANG=de", "keycloak:production", "ssh://somebody@far.example", "https://a.b:8000/c@d"]},
    {"url": "https://far.example/mcp?page=1", "headers": {"X-Region": "eu"}},
]


@pytest.mark.parametrize(("entry", "secret"), SECRET)
def test_what_is_plainly_secret_is_known_as_such(entry: dict[str, Any], secret: str) -> None:
    [server] = parse(json.dumps({"mcpServers": {"a": entry}}).encode(), {"T": "from-variable"})
    assert server.secrets == (secret,)
    assert secret not in repr(server)


@pytest.mark.parametrize("entry", INNOCENT)
def test_what_is_plainly_none_is_not(entry: dict[str, Any]) -> None:
    [server] = parse(json.dumps({"mcpServers": {"a": entry}}).encode(), {})
    assert server.secrets == ()


def test_what_some_clients_say_beside_it_is_no_mistake() -> None:
    text = (
        b'{"mcpServers": {"a": {"type": "http", "url": "http://x"}, "b": {"type": "stdio", "command": "x", "env": {}}}}'
    )
    assert [server.name for server in parse(text, {})] == ["a", "b"]


def test_variables_are_filled_in_wherever_they_stand() -> None:
    entry = {"command": "x", "args": ["Bearer ${T}"], "env": {"A": "${T}!"}}
    [server] = parse(json.dumps({"mcpServers": {"a": entry}}).encode(), {"T": CANARY})
    assert (server.args, server.env) == ((f"Bearer {CANARY}",), {"A": f"{CANARY}!"})
