"""Agents of the command line do a job: they read a file and write another one, with a model that is a script.

None of them may turn to anybody but the server.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from replay.cli import run as replay
from tests.clients.agents import AGENTS, CLAUDE_CODE, Agent
from tests.clients.alone import STRACE, alone
from tests.clients.front import MODELS, Front
from tests.clients.node import installed
from tests.clients.turns import Answer, results, works, works_in_text

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.system,
    pytest.mark.skipif(STRACE is None, reason="there is no strace"),
]

WORD = "xyzzy → 42"
DONE = f"The word is {WORD} 🎉."
Works = Callable[[Sequence[tuple[str, Any]], str], Answer]


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
async def test_an_agent_does_a_job(
    server: Front, tmp_path: Path, agent: Agent, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = await job(server, agent, tmp_path, MODELS["openai-compatible"], works)
    told = results(asked[-1])
    assert len(told) == 2
    assert WORD in told[0]
    await check_the_log(server, capsys)


async def test_an_agent_does_it_with_a_model_that_has_no_tools(
    server: Front, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Told of them in its prompt, and its calls read out of its text as it streams."""
    asked = await job(server, CLAUDE_CODE, tmp_path, "lmstudio/phi3:mini", works_in_text)
    assert not any("tools" in body for body in asked)
    *_, read, _, written = (message["content"] for message in asked[-1]["messages"])
    assert WORD in read
    assert "copy.txt" in written
    await check_the_log(server, capsys)


async def job(server: Front, agent: Agent, directory: Path, model: str, works: Works) -> list[Any]:
    """The agent reads a file and writes another one, the model being a script; what the model was asked."""
    command = [installed(agent.name), *agent.command]
    home, work = directory / "home", directory / "work"
    home.mkdir()
    work.mkdir()
    (work / "word.txt").write_text(f"{WORD}\n")
    for name, value in agent.files(server.process.url, model).items():
        path = home / name[2:] if name.startswith("~/") else work / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(value))
    provider = model.partition("/")[0]
    server.answer(provider, works([agent.reads(work / "word.txt"), agent.writes(work / "copy.txt", WORD)], DONE))
    ended = await alone(command, work, home=home, env=agent.env(server.process.url, model))
    assert ended.code == 0, ended.stderr + ended.stdout
    assert agent.says(ended.stdout) == DONE
    assert (work / "copy.txt").read_text() == WORD
    assert not ended.elsewhere
    return [request.json() for request in server.asked(provider)]


async def check_the_log(server: Front, capsys: pytest.CaptureFixture[str]) -> None:
    """Every request ended well, the two tools were called, and every answer renders again."""
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}/requests?limit=10") as answer:
        listed = (await answer.json())["data"]
    assert {request["state"] for request in listed} == {"completed"}
    assert replay(["verify", "--data-dir", str(server.process.data_dir)], {}) == 0, capsys.readouterr().out


async def test_going_elsewhere_is_noticed(tmp_path: Path) -> None:
    """The deliberate bug: a command that turns to somebody else (a datagram's socket sends nothing by that)."""
    program = "import socket; socket.socket(type=socket.SOCK_DGRAM).connect(('192.0.2.1', 9))"
    ended = await alone([sys.executable, "-c", program], tmp_path, home=tmp_path, env={})
    assert (ended.code, ended.elsewhere) == (0, {"192.0.2.1"})
