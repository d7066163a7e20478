"""A subscription delivers every row once, in order, from any place, at its consumer's pace."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from eventstore.envelope import ANY_VERSION, NewEvent, Recorded
from eventstore.errors import LogCorrupt
from eventstore.memory import MemoryLog
from eventstore.sqlite import SQLiteLog
from eventstore.subscription import State, Subscription
from tests.eventstore.builders import record_run, write


async def fill(log: MemoryLog | SQLiteLog, count: int) -> None:
    for _ in range(count):
        await log.append(write("a", ANY_VERSION))


async def test_it_catches_up_goes_live_falls_behind_and_ends() -> None:
    log = MemoryLog()
    await fill(log, 5)
    subscription = Subscription(log, after=1, batch=2)
    assert subscription.state is State.CATCHING_UP
    assert [row.position for row in await anext(subscription)] == [2, 3]
    assert [row.position for row in await anext(subscription)] == [4, 5]
    assert subscription.state is State.CATCHING_UP
    waiting = asyncio.ensure_future(anext(subscription))
    await asyncio.sleep(0)
    assert subscription.state is State.LIVE
    await fill(log, 1)
    assert [row.position for row in await waiting] == [6]
    await fill(log, 5)
    assert [row.position for row in await anext(subscription)] == [7, 8]
    assert subscription.state is State.BEHIND
    assert [row.position for row in await anext(subscription)] == [9, 10]
    assert [row.position for row in await anext(subscription)] == [11]
    waiting = asyncio.ensure_future(anext(subscription))
    await asyncio.sleep(0)
    assert subscription.state is State.LIVE
    await log.close()
    with pytest.raises(StopAsyncIteration):
        await waiting
    assert subscription.state is State.ENDED


async def test_types_are_chosen_and_what_is_passed_over_is_not_read_again() -> None:
    log = MemoryLog()
    await fill(log, 3)
    await log.append(write("b", 0, NewEvent("other_happened", 1, b"{}")))
    await fill(log, 3)
    subscription = Subscription(log, 0, types={"other_happened"}, batch=2)
    assert [row.position for row in await anext(subscription)] == [4]
    waiting = asyncio.ensure_future(anext(subscription))
    await asyncio.sleep(0)
    assert subscription.position == 7
    waiting.cancel()


@pytest.mark.parametrize(("frames", "positions"), [(False, [1, 4]), (True, [1, 2, 3, 4])])
async def test_frames_come_when_asked_for(frames: bool, positions: list[int]) -> None:
    log = MemoryLog()
    await record_run(log, "request-1", b"x", b"y")
    assert [row.position for row in await anext(Subscription(log, 0, frames=frames))] == positions


class ForgetsOne(MemoryLog):
    """The bug: one row does not come back."""

    async def read(self, after: int, limit: int, *, until: int | None = None, frames: bool = True) -> list[Recorded]:
        return [row for row in await super().read(after, limit, until=until, frames=frames) if row.position != 2]


async def test_a_gap_is_noticed() -> None:
    log = ForgetsOne()
    await fill(log, 3)
    with pytest.raises(LogCorrupt, match=r"oseq 3 .* follows 1"):
        await anext(Subscription(log, 0))


async def test_consumers_of_every_pace_get_every_row_while_the_log_is_written(tmp_path: Path) -> None:
    log = await SQLiteLog.open(tmp_path)

    async def consume(pause: int) -> list[int]:
        seen: list[int] = []
        async for batch in Subscription(log, 0, batch=7):
            seen += [row.position for row in batch]
            for _ in range(pause):
                await asyncio.sleep(0)
            if seen[-1] == 120:
                break
        return seen

    consumers = asyncio.gather(*(consume(pause) for pause in (0, 3, 30)))
    await asyncio.gather(*(fill(log, 30) for _ in range(4)))
    assert await consumers == [list(range(1, 121))] * 3
    await log.close()


async def weights(log: MemoryLog, batch_bytes: int) -> list[list[int]]:
    """The positions of each batch of a log whose rows weigh some 120 bytes, but the fourth 10,000."""
    await fill(log, 3)
    await log.append(write("a", ANY_VERSION, NewEvent("other_happened", 1, b'{"long":"%b"}' % (b"x" * 10_000))))
    await fill(log, 40)
    subscription = Subscription(log, 0, batch_bytes=batch_bytes)
    batches: list[list[int]] = []
    while not batches or batches[-1][-1] < 44:
        batches.append([row.position for row in await anext(subscription)])
    return batches


async def test_a_batch_weighs_little_and_nothing_is_left_out() -> None:
    batches = await weights(MemoryLog(), 2_000)
    assert [position for batch in batches for position in batch] == list(range(1, 45))
    assert batches[:2] == [[1, 2, 3], [4]]
    assert max(map(len, batches)) < 20


async def test_batches_of_light_rows_are_soon_as_large_as_they_may_be() -> None:
    assert [len(batch) for batch in await weights(MemoryLog(), 1 << 20)] == [16, 28]
