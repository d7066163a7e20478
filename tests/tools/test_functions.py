"""Python tools: loaded, run beside the loop, stopped, cut, and refused in words."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from gateway.config import ConfigError
from gateway.tools.execute import DirectRuns
from gateway.tools.functions import Threads, load_functions
from gateway.tools.values import CUT, OUTPUT_LIMIT, ToolTrouble
from tests.tools import functions
from tests.tools.running import tooled


def test_a_function_says_its_own_schema() -> None:
    offered = {each.tool.name: each.tool for each in load_functions(["tests.tools.functions"])}
    assert set(offered) == {"weather", "tide", "patient", "stubborn", "broken", "long", "slow"}
    weather = offered["weather"]
    assert weather.description == "The weather of a city."
    assert weather.parameters["required"] == ["city"]
    assert weather.function()["function"]["parameters"]["properties"]["days"]["type"] == "integer"


@pytest.mark.parametrize("name", ["no.such.module", "tests.tools.unloadable"])
def test_what_cannot_be_loaded_is_refused_at_the_start(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        load_functions([name])


async def test_tools_are_listed_and_run_and_recorded(tmp_path: Path) -> None:
    async with tooled(tmp_path / "logs") as server:
        _, listed = await server.ask("GET", "")
        assert [tool["name"] for tool in listed["data"]] == sorted(tool["name"] for tool in listed["data"])
        ran = await server.execute("weather", {"city": "Brest"})
        assert (ran["output"], ran["is_error"]) == ('{"city":"Brest","days":1,"sky":"clear"}', False)
        assert (await server.execute("tide", {"harbour": "Brest"}))["output"] == "Brest: 04:12"
        started, completed = await server.recorded("tool-weather")
        assert (started["type"], started["kind"], started["arguments"]) == (
            "tool_started",
            "python",
            '{"city":"Brest"}',
        )
        assert (completed["type"], completed["output"]) == ("tool_completed", ran["output"])
        assert started["call_id"] == completed["call_id"] == ran["call_id"]


async def test_what_goes_wrong_is_said_to_the_model(tmp_path: Path) -> None:
    async with tooled(tmp_path / "logs") as server:
        broken = await server.execute("broken")
        assert (broken["error"], broken["output"]) == ("tool_error", "LookupError: the almanac is not there")
        wrong = await server.execute("weather", {"days": "many"})
        assert wrong["error"] == "bad_arguments"
        assert "city" in wrong["output"] or "days" in wrong["output"]
        assert [event["type"] for event in await server.recorded("tool-weather")] == ["tool_failed"]
        assert (await server.ask("POST", "/execute", {"name": "nothing"}))[0] == 404


async def test_a_long_result_is_cut_and_the_log_says_so(tmp_path: Path) -> None:
    async with tooled(tmp_path / "logs") as server:
        ran = await server.execute("long")
        assert ran["cut"]
        assert ran["output"].endswith(CUT)
        assert len(ran["output"]) <= OUTPUT_LIMIT
        assert (await server.recorded("tool-long"))[-1]["length"] <= OUTPUT_LIMIT


async def test_without_retention_neither_arguments_nor_result_are_kept(tmp_path: Path) -> None:
    async with tooled(tmp_path / "logs") as server:
        body = {"name": "weather", "arguments": {"city": "Brest"}}
        _, ran = await server.ask("POST", "/execute", body, **{"X-AbstractCore-Retention": "none"})
        assert "Brest" in ran["output"]
        assert "Brest" not in str(await server.recorded("tool-weather"))


async def test_a_tool_that_takes_too_long_is_given_up_and_a_coroutine_is_cancelled(tmp_path: Path) -> None:
    functions.CANCELLED.clear()
    async with tooled(tmp_path / "logs", env={"ABSTRACTCORE_TOOL_TIMEOUT": "0.1"}) as server:
        for name in ("patient", "stubborn"):
            ran = await server.execute(name)
            assert (ran["error"], ran["output"]) == ("timeout", "The tool took longer than 0.1 s.")
        assert await asyncio.to_thread(functions.CANCELLED.wait, 30)
    functions.RELEASED.set()


async def test_the_server_answers_while_a_tool_holds_its_thread(tmp_path: Path) -> None:
    functions.RELEASED.clear()
    async with tooled(tmp_path / "logs") as server:
        held = asyncio.create_task(server.execute("stubborn"))
        await server.until("tool-stubborn", "tool_started")
        assert (await server.execute("tide", {"harbour": "Brest"}))["output"] == "Brest: 04:12"
        functions.RELEASED.set()
        assert (await held)["output"] == "late"


async def test_a_client_that_leaves_cancels_its_tool(tmp_path: Path) -> None:
    functions.CANCELLED.clear()
    async with tooled(tmp_path / "logs") as server:
        waiting = asyncio.create_task(server.execute("patient"))
        await server.until("tool-patient", "tool_started")
        waiting.cancel()
        events = await server.until("tool-patient", "tool_failed")
        assert events[-1]["kind"] == "cancelled"
        assert await asyncio.to_thread(functions.CANCELLED.wait, 30)


async def test_a_server_that_ends_says_that_its_tools_were_interrupted(tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as staying:
        async with tooled(tmp_path / "logs") as server:
            url = f"{server.gate.url}/v1/tools/execute"
            waiting = asyncio.create_task(staying.post(url, json={"name": "patient"}))
            await server.until("tool-patient", "tool_started")
        await asyncio.wait((waiting,))
    async with tooled(tmp_path / "logs") as server:
        assert [event["type"] for event in await server.recorded("tool-patient")] == ["tool_started", "tool_failed"]
        assert (await server.recorded("tool-patient"))[-1]["kind"] == "interrupted"


async def test_threads_that_are_left_behind_count() -> None:
    functions.RELEASED.clear()
    threads = Threads(1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await threads.run("stubborn", functions.stubborn)
    with pytest.raises(ToolTrouble, match="Too many"):
        await threads.run("weather", lambda: "never")
    functions.RELEASED.set()
    async with asyncio.timeout(30):
        while not threads._free:
            await asyncio.sleep(0.01)


class Late(DirectRuns):
    """A bug put in: the tool runs before the log has heard of it."""

    async def _record(self, job, event, admit=False):  # type: ignore[no-untyped-def]
        if event.type != "tool_started":
            await super()._record(job, event, admit)


async def test_a_tool_that_runs_unrecorded_is_noticed(tmp_path: Path) -> None:
    async with tooled(tmp_path / "logs") as server:
        tools = server.gate.server.tools
        tools.direct = Late(server.gate.server.log, tools.runner)
        await server.execute("tide", {"harbour": "Brest"})
        assert [event["type"] for event in await server.recorded("tool-tide")] != ["tool_started", "tool_completed"]


async def test_only_so_many_tools_run_at_once_and_the_rest_wait(tmp_path: Path) -> None:
    functions.RELEASED.clear()
    async with tooled(tmp_path / "logs") as server:
        runner = server.gate.server.tools.runner
        runner._room = asyncio.Semaphore(1)
        first = asyncio.create_task(server.execute("stubborn"))
        await server.until("tool-stubborn", "tool_started")
        second = asyncio.create_task(server.execute("tide", {"harbour": "Brest"}))
        await server.until("tool-tide", "tool_started")
        assert [event["type"] for event in await server.recorded("tool-tide")] == ["tool_started"]
        functions.RELEASED.set()
        assert ((await first)["output"], (await second)["output"]) == ("late", "Brest: 04:12")
