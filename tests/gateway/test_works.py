"""Work beside the answers: what fails is said, and begun again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from gateway.server import Server
from gateway.works import STEADY_S, Work, Works
from tests.gateway.whole import PATIENCE_S, gateway

SAID = ["watching: it failed, and is begun again: see the server's log"]


class Prompt(Works):
    again_s = 0.0


class Clock:
    """Monotonic seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Falling:
    """Work that fails so many times, and then goes on for ever."""

    def __init__(self, times: int) -> None:
        self._left = times
        self.begun = 0
        self.steady = asyncio.Event()

    async def __call__(self) -> None:
        self.begun += 1
        if self._left:
            self._left -= 1
            raise TypeError("nobody foresaw this: sk-secret")
        self.steady.set()
        await asyncio.Event().wait()


async def test_work_that_fails_is_begun_again_and_said_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    clock, work = Clock(), Falling(2)
    works = Prompt(clock)
    with caplog.at_level(logging.ERROR, "gateway.works"):
        works.begin("watching", work)
        assert works.ails() == []
        async with asyncio.timeout(PATIENCE_S):
            await work.steady.wait()
    assert work.begun == 3
    assert [record.message for record in caplog.records] == ["watching failed, and is begun again in 0 s"] * 2
    assert "nobody foresaw this" in caplog.text
    assert works.ails() == SAID
    clock.now += STEADY_S
    assert works.ails() == []
    works.end()


async def test_work_that_is_done_is_not_begun_again() -> None:
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1

    works = Prompt(Clock())
    works.begin("once", work)
    await asyncio.sleep(0.05)
    assert (begun, works.ails()) == (1, [])
    works.end()


class Troubled(Server):
    """A server one of whose works fails at once."""

    def _works(self) -> Iterator[tuple[str, Work]]:
        yield from super()._works()
        yield "watching", Falling(1)


async def test_health_names_it_and_says_nothing_of_the_error(tmp_path: Path) -> None:
    async with (
        gateway(tmp_path / "logs", "http://127.0.0.1:9", kind=Troubled) as served,
        aiohttp.ClientSession() as session,
        session.get(f"{served.url}/health") as answer,
    ):
        assert (answer.status, await answer.json()) == (200, {"status": "degraded", "reasons": SAID})
