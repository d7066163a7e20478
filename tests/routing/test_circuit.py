"""Circuit breakers: the steps as pure functions, and a server whose provider fails on and on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eventstore.catalogue.circuit import CircuitClosed, CircuitHalfOpened, CircuitOpened
from eventstore.envelope import ANY_VERSION, StreamWrite
from eventstore.sqlite import SQLiteLog
from gateway.routing.circuit import (
    CLOSED,
    LONGEST_COOL_DOWN_S,
    THRESHOLD,
    Circuit,
    after,
    event_of,
    evolve,
    outcome_of,
    probing,
)
from replay.cli import run as replay
from tests.clients.front import Front, front, saying
from tests.gateway.scripted import Script

NOW, FIRST_S = 1_795_000_000_000_000, 10.0
BODY: dict[str, Any] = {"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
REFUSING = Script.json({"error": {"message": "no", "type": "server_error", "code": None}}, status=500)


def opened() -> Circuit:
    found = CLOSED
    for _ in range(THRESHOLD):
        assert found.state == "closed"
        found = after(found, "failed", NOW, FIRST_S)
    return found


def test_failures_in_a_row_open_it_and_an_answer_between_them_counts_anew() -> None:
    assert opened() == Circuit("open", THRESHOLD, NOW, NOW + 10_000_000, 20.0)
    assert after(after(CLOSED, "failed", NOW, FIRST_S), "answered", NOW, FIRST_S) == CLOSED


def test_one_probe_goes_when_it_is_time_and_its_failure_doubles_the_wait() -> None:
    found = opened()
    assert probing(found, NOW, FIRST_S) is None
    probe = probing(found, NOW + 10_000_000, FIRST_S)
    assert probe is not None
    assert probe.state == "half_open"
    assert probing(probe, NOW + 10_000_001, FIRST_S) is None
    again = after(probe, "failed", NOW + 11_000_000, FIRST_S)
    assert (again.state, again.retry_at) == ("open", NOW + 31_000_000)
    assert after(probe, "answered", NOW, FIRST_S) == CLOSED


@pytest.mark.parametrize(
    ("kind", "status", "wait_s", "outcome"),
    [("connect_failed", None, None, "failed"), ("upstream_error", 529, None, "failed"),
     ("upstream_error", 400, None, "answered"), ("upstream_error", 429, 3.0, "told_to_wait"),
     ("upstream_error", 429, None, None), ("stopped", None, None, None)],
)  # fmt: skip
def test_whose_fault_it_is(kind: str, status: int | None, wait_s: float | None, outcome: str | None) -> None:
    assert outcome_of(kind, status, wait_s) == outcome


@given(
    st.lists(st.tuples(st.sampled_from(["answered", "failed", "told_to_wait", "ask"]), st.floats(0, 1000))),
    st.sampled_from([0.0, FIRST_S, 3600.0]),
)
@example([("told_to_wait", 1.0), ("ask", 1000.0)], 3600.0)
def test_its_events_say_all_of_it_and_no_wait_is_longer_than_the_longest(
    steps: list[tuple[Any, float]], first_s: float
) -> None:
    circuit, now_us, folded = CLOSED, NOW, CLOSED
    for outcome, passed_s in steps:
        now_us += int(passed_s * 1_000_000)
        before = circuit
        asked = probing(before, now_us, first_s) or before
        circuit = asked if outcome == "ask" else after(before, outcome, now_us, first_s, passed_s)
        event = event_of(before, circuit, "openai", None, "500", {})
        if isinstance(event, CircuitOpened | CircuitHalfOpened | CircuitClosed):
            folded = evolve(event)
        assert (folded.state, folded.retry_at) == (circuit.state, circuit.retry_at)
        if circuit.retry_at is not None:
            assert circuit.retry_at <= now_us + LONGEST_COOL_DOWN_S * 1_000_000


async def refused(server: Front, **fields: Any) -> tuple[int, bool]:
    """The answer's status, and whether it says when to try again."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}/chat/completions", json={**BODY, **fields}) as answer,
    ):
        return answer.status, "retry-after" in answer.headers


async def asked(server: Front, **fields: Any) -> tuple[int, list[str]]:
    """The answer's status, and the reasons that the request's events give."""
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{server.url}/chat/completions", json={**BODY, **fields}) as answer:
            status, request_id = answer.status, answer.headers["x-request-id"]
        async with session.get(f"{server.url}/requests/{request_id}/events") as answer:
            return status, [event.get("reason", "") for event in (await answer.json())["data"]]


async def breakers(server: Front) -> list[dict[str, Any]]:
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}/circuit-breakers") as answer:
        found: list[dict[str, Any]] = (await answer.json())["data"]
        return found


async def failing(server: Front, times: int = THRESHOLD) -> None:
    server.answer("openai", REFUSING)
    for _ in range(times):
        assert (await asked(server))[0] == 500


@pytest.mark.parametrize("bug", [False, True])
async def test_an_open_circuit_is_not_called_and_a_restart_keeps_it_open(tmp_path: Path, bug: bool) -> None:
    """The bug: a server whose circuits are off calls all the same."""
    args = ("--nats", "off", "--circuit-cool-down", "60", "--circuit", "off" if bug else "fallback")
    async with front(tmp_path, args=args) as server:
        await failing(server)
        server.answer("anthropic", saying("anthropic", "here"))
        before = len(server.asked("openai"))
        status, reasons = await asked(server, fallback=["anthropic/claude-sonnet-4-5"])
        assert status == 200
        assert (len(server.asked("openai")) > before) is bug
        assert ("circuit_open" in reasons) is not bug
        shown = await breakers(server)
    async with front(tmp_path, args=args) as server:
        assert await breakers(server) == shown
        assert [one["state"] for one in shown] == ([] if bug else ["open"])


async def test_a_probe_closes_it(tmp_path: Path) -> None:
    async with front(tmp_path, args=("--nats", "off", "--circuit-cool-down", "0")) as server:
        await failing(server)
        server.answer("openai", saying("openai", "well again"))
        before = len(server.asked("openai"))
        assert (await asked(server, fallback=["anthropic/claude-sonnet-4-5"]))[0] == 200
        assert len(server.asked("openai")) == before + 1
        assert await breakers(server) == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({"hedge": {"after_ms": 1, "model": "nobody/x"}}, 404), ({"max_cost_usd": 1e-9}, 402)],
    ids=["hedge", "cap"],
)
async def test_a_request_that_is_refused_is_no_probe(tmp_path: Path, fields: dict[str, Any], expected: int) -> None:
    async with front(tmp_path, args=("--nats", "off", "--circuit-cool-down", "0")) as server:
        await failing(server)
        shown = await breakers(server)
        assert (await asked(server, fallback=["anthropic/claude-sonnet-4-5"], **fields))[0] == expected
        assert await breakers(server) == shown


@pytest.mark.parametrize(("circuit", "expected"), [("fallback", 200), ("refuse", 503)])
async def test_a_request_whose_other_models_cannot_take_it_is_tried_all_the_same(
    tmp_path: Path, circuit: str, expected: int
) -> None:
    """One that names no such model would be tried: a useless name must not be worse than none."""
    async with front(tmp_path, args=("--nats", "off", "--circuit-cool-down", "60", "--circuit", circuit)) as server:
        await failing(server)
        server.answer("openai", saying("openai", "well again"))
        before = len(server.asked("openai"))
        status, reasons = await asked(server, fallback=["nobody/has-this", "openai/gpt-4o"])
        assert status == expected
        assert len(server.asked("openai")) - before == (1 if expected == 200 else 0)
        assert ("circuit_open" in reasons) is (expected == 503)
    assert replay(["verify", "--decisions", "--data-dir", str(tmp_path / "logs")], {}) == 0


@pytest.mark.parametrize(
    ("circuit", "fallback", "retried", "answered_by"),
    [("fallback", ["anthropic/claude-sonnet-4-5"], 0, "here"),
     ("refuse", ["anthropic/claude-sonnet-4-5"], 0, "here"),
     ("fallback", ["nobody/has-this", "openai/gpt-4o"], 1, "well again"),
     ("off", ["anthropic/claude-sonnet-4-5"], 1, "well again")],
)  # fmt: skip
async def test_one_whose_failure_opens_it_goes_to_a_model_that_can_take_it_before_any_retry(
    tmp_path: Path, circuit: str, fallback: list[str], retried: int, answered_by: str
) -> None:
    """Without such a model, or without circuits, its retries go on."""
    async with front(tmp_path, args=("--nats", "off", "--circuit-cool-down", "60", "--circuit", circuit)) as server:
        await failing(server, THRESHOLD - 1)
        server.answer("openai", REFUSING, saying("openai", "well again"))
        server.answer("anthropic", saying("anthropic", "here"))
        before = len(server.asked("openai"))
        async with aiohttp.ClientSession() as session:
            body = {**BODY, "retries": 2, "fallback": fallback}
            async with session.post(f"{server.url}/chat/completions", json=body) as answer:
                said = await answer.json()
        assert said["choices"][0]["message"]["content"] == answered_by
        assert len(server.asked("openai")) - before == 1 + retried
    assert replay(["verify", "--decisions", "--data-dir", str(tmp_path / "logs")], {}) == 0


async def test_requests_that_have_no_other_model_can_be_refused(tmp_path: Path) -> None:
    async with front(tmp_path, args=("--nats", "off", "--circuit-cool-down", "60", "--circuit", "refuse")) as server:
        await failing(server)
        before = len(server.asked("openai"))
        assert await refused(server) == (503, True)
        assert await refused(server, fallback=["openai/gpt-4o"]) == (503, True)
        assert len(server.asked("openai")) == before


async def test_of_those_that_fall_back_on_it_one_goes_to_see_too(tmp_path: Path) -> None:
    """The others are with the next before it has its answer."""
    many = 6
    ill = CircuitOpened(
        provider="lmstudio", credential=None, reason="500", failures=5, opened_at=1, retry_at=2, cool_down_s=300.0,
        inputs={},
    )  # fmt: skip
    log = await SQLiteLog.open(tmp_path / "logs")
    await log.append(StreamWrite("provider-lmstudio", ANY_VERSION, (ill.new(),)))
    await log.close()
    async with front(tmp_path) as server:
        server.answer("openai", REFUSING)
        server.answer("lmstudio", replace(REFUSING, once=lambda: len(server.asked("ollama")) == many - 1))
        server.answer("ollama", saying("ollama", "here"))
        async with asyncio.timeout(60):
            asking = [asked(server, fallback=["lmstudio/some", "ollama/qwen3:4b"]) for _ in range(many)]
            assert [status for status, _ in await asyncio.gather(*asking)] == [200] * many
        assert len(server.asked("lmstudio")) == 1
