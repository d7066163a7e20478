"""OpenAI's Codex command line, offline, over Responses: a whole turn in which it runs a command. Its configuration is
that of the README. `NODE_PATH` says where its package is installed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.clients.alone import STRACE, alone
from tests.clients.front import front
from tests.endpoints.test_messages import calling
from tests.gateway.scripted import Request, Script

pytestmark = [pytest.mark.system, pytest.mark.skipif(STRACE is None, reason="there is no strace")]

CODEX = Path(os.environ.get("NODE_PATH", "/nowhere")) / ".bin/codex"
CONFIG = """
model = "openai/gpt-5.2"
model_provider = "abstractcore"
check_for_update_on_startup = false
[model_providers.abstractcore]
name = "abstractcore"
base_url = "{url}"
env_key = "ABSTRACTCORE_API_KEY"
wire_api = "responses"
[features]
plugins = false
[analytics]
enabled = false
[otel]
exporter = "none"
"""


def model(request: Request) -> Script:
    """It writes a file, and says so when it has seen that it is there."""
    body = request.json()
    if body["messages"][-1]["role"] == "tool":
        return Script.file("openai/text.sse")
    assert "exec_command" in [tool["function"]["name"] for tool in body["tools"]]
    return calling(
        {"name": "exec_command", "arguments": ""}, {"arguments": json.dumps({"cmd": "echo hello | tee made.txt"})}
    )


@pytest.mark.skipif(not CODEX.exists(), reason="codex is not installed")
async def test_a_whole_turn(tmp_path: Path) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    for directory in (home, work):
        directory.mkdir()
    async with front(tmp_path) as server:
        server.answer("openai", model)
        (home / "config.toml").write_text(CONFIG.format(url=server.url))
        options = ("--skip-git-repo-check", "--json", "--dangerously-bypass-approvals-and-sandbox")
        command = [str(CODEX), "exec", *options, "make a file"]
        ended = await alone(command, work, home=home, env={"CODEX_HOME": str(home), "ABSTRACTCORE_API_KEY": "x"})
        asked = [request.json() for request in server.asked("openai")]
    assert ended.code == 0, ended.stderr
    assert not ended.elsewhere
    events = [json.loads(line) for line in ended.stdout.splitlines()]
    assert (work / "made.txt").read_text() == "hello\n"
    assert "hello" in asked[-1]["messages"][-1]["content"]
    assert [e["item"]["type"] for e in events if e["type"] == "item.completed"][-1] == "agent_message"
    assert events[-1]["type"] == "turn.completed"
    assert events[-1]["usage"]["input_tokens"] > 0
