"""The wall clock jumps, while the log runs and while it does not: the order of time in it stays the order of events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from eventstore.chain import Chain
from eventstore.envelope import ANY_VERSION, NewEvent, RecordedEvent
from eventstore.sqlite import SQLiteLog
from eventstore.verify import verify
from tests.eventstore.builders import run_of, write

NOON = 1_795_262_400_000_000
"""2026-11-21T12:00:00Z, microseconds."""
HOUR, DAY = 3_600_000_000, 86_400_000_000


class Wall:
    """A clock that says what it is set to, and goes on by a millisecond with every look."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> int:
        self.now += 1_000
        return self.now


async def times(folder: Path, jumps: Sequence[int], *, restarts: bool) -> list[int]:
    """Of three events after each jump of the wall clock; with `restarts` it jumps while the log is closed."""
    wall = Wall()
    log = await SQLiteLog.open(folder, now_us=wall)
    for jump in jumps:
        if restarts:
            await log.close()
        wall.now += jump
        if restarts:
            log = await SQLiteLog.open(folder, now_us=wall)
        for _ in range(3):
            await log.append(write("node-1", ANY_VERSION))
    rows = await log.read(0, 1_000)
    await log.close()
    assert list(verify(rows, run_of)) == []
    assert [row.position for row in rows] == list(range(1, 3 * len(jumps) + 1))
    return [row.at for row in rows if isinstance(row, RecordedEvent)]


@pytest.mark.parametrize("restarts", [False, True])
async def test_an_hour_back_the_log_s_time_stands_nearly_still(tmp_path: Path, restarts: bool) -> None:
    found = await times(tmp_path, [0, -HOUR], restarts=restarts)
    assert all(later > earlier for earlier, later in pairwise(found))
    assert [at - found[2] for at in found[3:]] == [1, 2, 3]


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_day_forward_and_back_it_waits_for_the_wall_clock(tmp_path: Path, restarts: bool) -> None:
    found = await times(tmp_path, [0, DAY, -DAY, DAY + HOUR], restarts=restarts)
    assert all(later > earlier for earlier, later in pairwise(found))
    assert found[3] - found[2] > DAY  # it goes along
    assert [at - found[5] for at in found[6:9]] == [1, 2, 3]  # it does not go back
    assert found[9] - found[8] > HOUR - 1_000_000  # and follows again, once the wall is past it


async def test_any_jumps_keep_the_order(tmp_path: Path) -> None:
    random = Random(7)
    found = await times(tmp_path, [random.randrange(-DAY, DAY) for _ in range(30)], restarts=True)
    assert all(later > earlier for earlier, later in pairwise(found))


class WallClockChain(Chain):
    """The bug: events have the time of the wall."""

    def link(self, event: NewEvent, stream: str, version: int, now: int) -> bytes:
        self.at = now - 1
        return super().link(event, stream, version, now)


@pytest.mark.parametrize(("kind", "ordered"), [(Chain, True), (WallClockChain, False)])
def test_a_clock_that_follows_the_wall_back_is_noticed(kind: Callable[[str], Chain], ordered: bool) -> None:
    chain, rows = kind("n1i1"), []
    for version, now in enumerate((NOON, NOON - HOUR), 1):
        data = chain.link(NewEvent("thing_happened", 1, b"{}"), "a", version, now)
        rows.append(
            RecordedEvent(version, "n1i1", version, "a", version, "thing_happened", chain.at, 0, data, chain.digest)
        )
    assert [found.what for found in verify(rows, run_of)] == ([] if ordered else ["the clock of n1i1 went back"])
