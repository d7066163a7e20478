"""Many feeds that catch up at once: a piece of one of them in each turn of the loop, so that others have theirs too."""

from __future__ import annotations

import asyncio
from asyncio import Lock
from collections import Counter
from dataclasses import replace
from pathlib import Path

from gateway.api.events import PIECE, Listener, Pace
from gateway.services import Services
from projections.feed import PING, Cursor, Filter
from tests.gateway.serving import new_id, serving
from tests.projections.stories import completed

FEEDS, EVENTS = 10, 60
LARGE = "m" * 10_000


class Free(Lock):
    """The bug: whoever wants has it."""

    async def acquire(self) -> bool:  # type: ignore[override]  # there is only one true answer
        return True

    def release(self) -> None:
        pass


class Turns:
    """How many turns the loop has had."""

    def __init__(self) -> None:
        self.now = 0
        self._tick()

    def _tick(self) -> None:
        self.now += 1
        asyncio.get_running_loop().call_soon(self._tick)


class Taking:
    """A client that takes whatever comes; `pieces` counts what came to all of them, by the turn it came in."""

    def __init__(self, turns: Turns, pieces: Counter[int]) -> None:
        self._turns, self._pieces, self.taken = turns, pieces, 0

    async def write(self, data: bytes) -> None:
        if data != PING:
            self._pieces[self._turns.now] += 1
            self.taken += data.count(b"\n\n")
            assert len(data) < PIECE + 2 * len(LARGE)

    def over(self) -> bool:
        return self.taken == EVENTS

    def drop(self) -> None:
        raise AssertionError("nobody stalls")


async def pieces_of_a_turn(given: Services) -> int:
    """How many pieces were made at most in one turn of the loop, by feeds that all catch up."""
    pieces = Counter[int]()
    turns = Turns()
    sinks = [Taking(turns, pieces) for _ in range(FEEDS)]
    pace = Pace(look_s=0.01)
    await asyncio.gather(*(Listener(sink, given, Filter(), Cursor(0), pace).serve() for sink in sinks))
    assert pieces.total() > FEEDS
    return max(pieces.values())


async def test_feeds_that_catch_up_take_turns(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        for _ in range(EVENTS):
            await served.add(completed(new_id(), model=LARGE))
        assert await pieces_of_a_turn(served.services) == 1
        assert await pieces_of_a_turn(replace(served.services, telling=Free())) > 1
