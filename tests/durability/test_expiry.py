"""The wall clock jumps an hour back or a day forward under a running server: what is kept for a while is kept as long,
and who is told to wait waits as long. The bug, of each story: a server that measures by the wall."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path

import pytest

from eventstore.sqlite import wall_clock_us
from gateway import steady
from gateway.routing.circuit import THRESHOLD
from gateway.server import Server
from tests.cache.calls import CHAT, Caller, serving
from tests.crash.load import openai_body
from tests.gateway.scripted import Script, ScriptedServer

HOUR_S, DAY_S = 3_600, 86_400
KEYED = {"Idempotency-Key": "order-1"}
USE = {"x-abstractcore-cache": "use", "x-abstractcore-cache-max-age": "600"}
COOL_DOWN_S = 60
REFUSING = ("--circuit", "refuse", "--circuit-cool-down", str(COOL_DOWN_S))
ANSWER, DOWN = Script.json(openai_body("Here.")), Script.json({"error": {"message": "no"}}, status=500)


class ByTheWall(Server):
    """The bug."""

    clock = staticmethod(lambda _: wall_clock_us)


class Clocks:
    """The machine's clocks, moved on: `jump` is the wall clock's alone, `go_by` is time that passes."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._wall_s = self._passed_s = 0
        wall, elapsed = time.time_ns, steady.elapsed_ns
        patch.setattr(time, "time_ns", lambda: wall() + (self._wall_s + self._passed_s) * 10**9)
        patch.setattr(steady, "elapsed_ns", lambda: elapsed() + self._passed_s * 10**9)

    def jump(self, seconds: int) -> None:
        self._wall_s += seconds

    def go_by(self, seconds: int) -> None:
        self._passed_s += seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        server.script(CHAT, ANSWER)
        yield server


jumps = pytest.mark.parametrize("jump", [-HOUR_S, DAY_S])
kinds = pytest.mark.parametrize("kind", [Server, ByTheWall])


@jumps
@kinds
@pytest.mark.parametrize(("headers", "kept_s"), [(KEYED, DAY_S), (USE, 600)])
async def test_an_answer_is_kept_as_long_as_it_was_to_be(
    tmp_path: Path,
    upstream: ScriptedServer,
    clocks: Clocks,
    headers: dict[str, str],
    kept_s: int,
    kind: type[Server],
    jump: int,
) -> None:
    calls = []
    async with serving(tmp_path, upstream, kind=kind) as (_, caller):
        for jumped_s, passed_s in ((0, 0), (jump, kept_s - 30), (0, 60)):
            clocks.jump(jumped_s)
            clocks.go_by(passed_s)
            assert (await caller.ask(headers=headers)).status == 200
            calls.append(len(upstream.requests))
    assert (calls == [1, 1, 2]) is (kind is Server), calls


async def told(caller: Caller) -> int:
    """The seconds that a refused request is told to wait; 0 where it was not refused."""
    return int((await caller.ask()).headers.get("retry-after", "0"))


async def opened(caller: Caller, upstream: ScriptedServer) -> None:
    """A circuit, by failures."""
    upstream.script(CHAT, DOWN)
    for _ in range(THRESHOLD):
        assert (await caller.ask()).status == 500
    upstream.script(CHAT, ANSWER)
    assert COOL_DOWN_S - 5 < await told(caller) <= COOL_DOWN_S + 1


@jumps
@kinds
async def test_a_provider_is_left_alone_as_long_as_was_said(
    tmp_path: Path, upstream: ScriptedServer, clocks: Clocks, kind: type[Server], jump: int
) -> None:
    async with serving(tmp_path, upstream, *REFUSING, kind=kind) as (_, caller):
        await opened(caller, upstream)
        clocks.jump(jump)
        clocks.go_by(COOL_DOWN_S // 2)
        before = await told(caller)
        clocks.go_by(COOL_DOWN_S // 2)
        after = await told(caller)
    assert (0 < before <= COOL_DOWN_S // 2 + 1 and after == 0) is (kind is Server), (before, after)


@kinds
async def test_nor_does_a_restart_at_an_earlier_hour_leave_it_alone_for_longer(
    tmp_path: Path, upstream: ScriptedServer, clocks: Clocks, kind: type[Server]
) -> None:
    async with serving(tmp_path, upstream, *REFUSING, kind=kind) as (_, caller):
        await opened(caller, upstream)
    clocks.jump(-HOUR_S)
    async with serving(tmp_path, upstream, *REFUSING, kind=kind) as (_, caller):
        waits = await told(caller)
    assert (0 < waits <= COOL_DOWN_S + 1) is (kind is Server), waits


@jumps
@kinds
async def test_a_date_of_the_provider_s_is_as_far_away_as_it_was(
    tmp_path: Path, upstream: ScriptedServer, clocks: Clocks, kind: type[Server], jump: int
) -> None:
    in_30_s = formatdate(time.time() + 30, usegmt=True)
    upstream.script(CHAT, Script.json({"error": {"message": "slow"}}, status=429, headers={"retry-after": in_30_s}))
    async with serving(tmp_path, upstream, kind=kind) as (served, caller):
        clocks.jump(jump)
        failed = await served.generation((await caller.ask()).request_id)
    assert (20 < failed["retry_after_s"] <= 30) is (kind is Server), failed
