"""A request that ends while its tools run: by its deadline, by a word, by what it costs; each tool has its one end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.exchange import running as module
from gateway.exchange.inputs import Failure, Stop
from gateway.exchange.running import Limits, Running, overdue
from gateway.exchange.state import Exchange
from gateway.exchange.tool_round import ToolRounds
from gateway.tools.runner import Job, Outcome
from replay.cli import run as replay
from tests.gateway.scripted import ScriptedServer
from tests.gateway.whole import COMPATIBLE, PATIENCE_S, chat
from tests.tools import functions
from tests.tools.running import Tooled, tooled
from tests.tools.test_loop import call, calling, whole

PATIENT = whole({"content": "A moment.", "tool_calls": [call("patient")]}, "tool_calls")


async def failed_tool(server: Tooled, request_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The last two events of a request: its tool's end, and its own."""
    tool, end = (event.body for event in (await server.gate.ended(request_id))[-2:])
    assert tool["type"] == "tool_failed"
    return tool, end


@pytest.mark.parametrize("stream", [True, False])
async def test_a_deadline_ends_a_tool_that_runs(tmp_path: Path, stream: bool) -> None:
    functions.CANCELLED.clear()
    async with ScriptedServer() as upstream:
        upstream.script(COMPATIBLE, calling(call("patient"), text="A moment.") if stream else PATIENT)
        async with tooled(tmp_path / "logs", upstream=upstream.base_url) as server:
            got = await server.gate.ask(chat(execute_tools=True, stream=stream, deadline_s=2, retries=2))
            tool, end = await failed_tool(server, got.headers["x-request-id"])
            assert (tool["kind"], tool["message"]) == ("cancelled", "the deadline of the request has passed")
            assert (end["type"], end["attempts"], end["error"]["code"]) == ("request_failed", 1, "total_timeout")
            assert got.status == (200 if stream else 504)
            assert b"the deadline of the request has passed" in got.body
            assert await asyncio.to_thread(functions.CANCELLED.wait, 30)
            assert len(upstream.requests) == 1
        assert replay(["verify", "--data-dir", str(tmp_path / "logs")], {}) == 0


async def test_a_stop_ends_a_tool_that_runs_and_says_why(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream:
        upstream.script(COMPATIBLE, PATIENT)
        async with tooled(tmp_path / "logs", upstream=upstream.base_url) as server:
            asked = asyncio.create_task(server.gate.ask(chat(execute_tools=True)))
            request_id = await _begun(server)
            url = f"{server.gate.url}/v1/requests/{request_id}/stop"
            async with server.client.post(url, json={"reason": "enough"}) as stopped:
                assert stopped.status == 200
            assert json.loads((await asked).body)["error"]["code"] == "stopped"
            tool, end = await failed_tool(server, request_id)
            assert (tool["kind"], tool["message"]) == ("cancelled", "The answer was stopped: enough")
            assert "duration_ms" not in tool, "nobody knows how long it would have taken"
            assert (end["type"], end["reason"]) == ("request_cancelled", "enough")


async def _begun(server: Tooled) -> str:
    """The id of the one request, once its tool runs."""
    async with asyncio.timeout(PATIENCE_S):
        while not (listed := server.gate.server.exchanges.open):
            await asyncio.sleep(0.01)
        [request_id] = [running.submission.request_id for running in listed]
        await server.until(f"request-{request_id}", "tool_started")
    return request_id


def _one(phase: str, called_at: float | None, waiting: bool) -> Running:
    """An exchange that came at 0 and had a second."""
    one = object.__new__(Running)
    one.exchange = Exchange("r", phase=phase)  # type: ignore[arg-type]
    one.called_at, one.heard_at, one.deadline_at, one.streamed_call = called_at, None, 1.0, True
    one.waiting = waiting
    return one


@pytest.mark.parametrize(
    ("phase", "called_at", "waiting", "late"),
    [
        ("generating", 0.5, True, True),
        ("settled", None, True, True),
        ("new", None, True, True),
        ("generating", None, True, True),
        ("generating", None, False, False),
        ("received", None, True, False),
    ],
    ids=["a call", "tools", "files", "files of the next model", "a commit", "another's answer"],
)
def test_a_deadline_holds_for_calls_tools_and_files(
    phase: str, called_at: float | None, waiting: bool, late: bool
) -> None:
    """What is being written is not cut short; what shares an answer has its source's time."""
    assert (overdue(_one(phase, called_at, waiting), Limits(), now=2.0) is not None) is late
    assert overdue(_one(phase, called_at, waiting), Limits(), now=0.9) is None


class Deaf(ToolRounds):
    """A bug put in: what ends with the exchange is not looked at."""

    async def _hear(self, running, outcomes, told):  # type: ignore[no-untyped-def]
        if running.verdict is None:
            await super()._hear(running, outcomes, told)


async def _ended_with_its_exchange(rounds: type[ToolRounds]) -> list[str]:
    """The ends that are recorded of a tool that is whole when its exchange's verdict falls."""
    recorded: list[str] = []
    one = _one("settled", None, waiting=False)
    one.verdict = None

    async def record(running: Running, happened: Any, frames: Any = ()) -> Any:
        recorded.append(happened.event.type)

    class Runner:
        async def run(self, job: Job, progress: Any) -> Outcome:
            one.verdict = Stop("stopped", "enough", "caller", reason="enough")
            return Outcome(text="done", duration_ms=1.0)

    tools = rounds(Runner(), record)  # type: ignore[arg-type]
    outcomes: dict[int, Outcome] = {}
    jobs = [Job(id=name, name="t", arguments="{}") for name in ("a", "b")]
    await tools._run(one, jobs, outcomes)
    await tools._give_up(one, [job for place, job in enumerate(jobs) if place not in outcomes])
    return recorded


async def test_a_tool_that_ended_with_its_exchange_is_not_called_cancelled() -> None:
    assert await _ended_with_its_exchange(ToolRounds) == ["tool_completed", "tool_completed"]


async def test_ends_that_are_not_heard_are_noticed() -> None:
    assert "tool_failed" in await _ended_with_its_exchange(Deaf)


async def test_a_deadline_that_tools_need_not_keep_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a bug put in: only calls are looked at."""

    def only_calls(one: Running, limits: Limits, now: float) -> Failure | None:
        return None if one.called_at is None else overdue(one, limits, now)

    monkeypatch.setattr(module, "overdue", only_calls)
    async with ScriptedServer() as upstream:
        slow = [call("slow", '{"seconds": 2.5}')]
        upstream.script(COMPATIBLE, whole({"tool_calls": slow}, "tool_calls"), whole({"content": "ok"}, "stop"))
        async with tooled(tmp_path / "logs", upstream=upstream.base_url) as server:
            got = await server.gate.ask(chat(execute_tools=True, deadline_s=2))
            events = [event.type for event in await server.gate.ended(got.headers["x-request-id"])]
            assert "tool_completed" in events
