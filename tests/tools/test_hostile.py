"""Tools that end in ways nobody would choose: each is a failure that its model is told, and the server goes on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from eventstore.catalogue.tool import ToolProgress
from gateway.tools import functions
from gateway.tools.execute import progress_of
from gateway.tools.functions import PythonTool, Threads, load_functions
from gateway.tools.runner import Job
from gateway.tools.values import ToolTrouble
from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.whole import COMPATIBLE, chat
from tests.tools.running import tooled
from tests.tools.test_loop import call, whole
from tests.tools.test_registered import host_of, registration

ENDS = [
    ("leaves", "tool_error", "SystemExit"),
    ("runs_out", "tool_error", "StopIteration"),
    ("gives_up", "tool_error", "CancelledError"),
    ("circles", "tool_error", "failed"),
    ("raw", "tool_error", "failed"),
    ("halves", None, "?!"),
]


async def no_progress(progress: float, total: float | None, message: str | None) -> None:
    """Nobody hears it."""


async def test_however_a_tool_ends_the_server_goes_on(tmp_path: Path) -> None:
    async with tooled(tmp_path / "logs", "--tools", "tests.tools.functions,tests.tools.hostile") as server:
        for name, kind, said in ENDS:
            ran = await server.execute(name)
            assert (ran["error"], said in ran["output"]) == (kind, True), ran
        assert (await server.execute("tide", {"harbour": "Brest"}))["output"] == "Brest: 04:12"


@pytest.mark.parametrize("number", ["123456789012345678901", "-9223372036854775809", "0.5"])
async def test_a_number_reaches_a_tool_as_its_model_wrote_it(tmp_path: Path, number: str) -> None:
    arguments = f'{{"number": {number}}}'
    async with ScriptedServer() as upstream:
        host = host_of(upstream)
        upstream.script("POST /run", Script(b"ok", content_type="text/plain"))
        env = {"ABSTRACTCORE_TOOL_URL_ALLOWLIST": host}
        async with tooled(tmp_path / "logs", "--tools", "tests.tools.hostile", env=env) as server:
            assert (await server.execute("exact", arguments))["output"] == number
            await server.ask("POST", "/register", registration(f"http://{host}", parameters={"type": "object"}))
            assert (await server.execute("forecast", arguments))["output"] == "ok"
            assert upstream.requests[-1].body == arguments.encode()


async def test_a_round_with_such_tools_has_an_end(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream:
        calls = [call(name, "{}", name, place) for place, (name, _, _) in enumerate(ENDS)]
        upstream.script(COMPATIBLE, whole({"tool_calls": calls}, "tool_calls"), whole({"content": "ok"}, "stop"))
        args = ("--tools", "tests.tools.functions,tests.tools.hostile")
        async with tooled(tmp_path / "logs", *args, upstream=upstream.base_url) as server:
            assert (await server.gate.ask(chat(execute_tools=True))).status == 200
            told = upstream.requests[1].json()["messages"][-len(ENDS) :]
            assert [message["content"].startswith("Error: ") for message in told] == [True] * 5 + [False]


@pytest.mark.parametrize(
    ("said", "recorded"),
    [((0.5, 1, "half"), (0.5, 1.0)), ((2, math.inf, None), (2.0, None)), ((math.nan, None, None), None),
     ((10**400, None, None), None)],
)  # fmt: skip
async def test_progress_is_recorded_where_it_is_a_number(
    said: Any, recorded: tuple[float, float | None] | None
) -> None:
    job, events = Job(id="c", name="t", arguments="{}"), []

    async def record(event: ToolProgress) -> None:
        events.append(event)

    await progress_of(job, record)(*said)
    assert [(event.progress, event.total) for event in events] == ([] if recorded is None else [recorded])
    assert not any(b"null" in event.new().fields for event in events)


async def test_an_exception_that_ends_the_loop_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a bug put in: what a thread raised is raised again as it is."""
    tools = {each.tool.name: each.run for each in load_functions(["tests.tools.hostile"])}
    with pytest.raises(ToolTrouble):
        await tools["leaves"]({}, no_progress)
    monkeypatch.setattr(functions, "bearable", lambda error: error)
    tool = tools["leaves"]
    assert isinstance(tool, PythonTool)
    with pytest.raises(SystemExit):
        await Threads(1).run("leaves", lambda: tool._call())
