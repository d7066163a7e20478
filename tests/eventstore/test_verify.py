"""Verification finds whatever was changed: here each change is made, one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from eventstore.envelope import Recorded, RecordedEvent, RecordedFrames
from eventstore.frames import FrameRun
from eventstore.memory import MemoryLog
from eventstore.verify import Finding, verify
from tests.eventstore.builders import happened, record_run, run_of, write


async def recorded() -> list[Recorded]:
    """1 run_opened, 2 and 3 frames, 4 run_closed, 5 and 6 events of another stream."""
    log = MemoryLog()
    await record_run(log, "request-1", b"x", b"y")
    await log.append(write("request-2", 0, happened(n=1), happened(n=2)))
    return await log.read(0, 100)


def findings(rows: list[Recorded], sealed: int = 0) -> list[Finding]:
    return list(verify(rows, run_of, sealed=sealed))


async def test_what_was_written_is_in_order() -> None:
    assert findings(await recorded()) == []


EVENT_CHANGES: dict[str, Callable[[RecordedEvent], RecordedEvent]] = {
    "origin": lambda row: replace(row, origin="n9999999999999999"),
    "oseq": lambda row: replace(row, oseq=row.oseq + 1),
    "stream": lambda row: replace(row, stream="request-9"),
    "version": lambda row: replace(row, version=row.version + 1),
    "type": lambda row: replace(row, type="thing_undone"),
    "at": lambda row: replace(row, at=row.at + 1),
    "data": lambda row: replace(row, data=row.data.replace(b'"n":', b'"m":')),
    "schema": lambda row: replace(row, data=row.data.replace(b'"schema":1', b'"schema":2')),
    "no schema": lambda row: replace(row, data=row.data.replace(b'"schema":1', b'"schema":x')),
    "digest": lambda row: replace(row, digest=bytes(32)),
}


@pytest.mark.parametrize("change", EVENT_CHANGES.values(), ids=EVENT_CHANGES.keys())
async def test_a_changed_event_is_found(change: Callable[[RecordedEvent], RecordedEvent]) -> None:
    rows = await recorded()
    assert isinstance(rows[4], RecordedEvent)
    rows[4] = change(rows[4])
    assert 5 in {finding.position for finding in findings(rows)}


FRAMES_CHANGES: dict[str, Callable[[RecordedFrames], RecordedFrames]] = {
    "generation": lambda row: replace(row, generation=2),
    "back": lambda row: replace(row, back=2),
    "frame": lambda row: replace(row, frame=1),
    "count": lambda row: replace(row, count=2),
    "offset_us": lambda row: replace(row, offset_us=77),
    "codec": lambda row: replace(row, codec=1),
    "unknown codec": lambda row: replace(row, codec=9),
    "bytes": lambda row: replace(row, bytes=b"Y"),
}


@pytest.mark.parametrize("change", FRAMES_CHANGES.values(), ids=FRAMES_CHANGES.keys())
async def test_a_changed_frames_row_is_found(change: Callable[[RecordedFrames], RecordedFrames]) -> None:
    rows = await recorded()
    assert isinstance(rows[2], RecordedFrames)
    rows[2] = change(rows[2])
    assert {finding.position for finding in findings(rows)} & {3, 4}


@pytest.mark.parametrize("missing", range(5))
async def test_a_missing_row_is_found(missing: int) -> None:
    rows = await recorded()
    del rows[missing]
    assert findings(rows) != []


async def test_exchanged_rows_are_found() -> None:
    rows = await recorded()
    rows[4], rows[5] = replace(rows[5], position=5), replace(rows[4], position=6)
    assert findings(rows) != []


async def test_frames_after_the_end_of_their_run_are_found() -> None:
    rows = await recorded()
    rows.append(RecordedFrames(7, 1, 4, 3, 1, 9, 0, b"z"))
    assert [finding.position for finding in findings(rows)] == [7]


async def test_a_run_that_is_still_open_is_no_finding() -> None:
    log = MemoryLog()
    await record_run(log, "request-1", b"x", b"y")
    rows = await log.read(0, 3)
    assert findings(rows) == []


async def test_a_log_whose_beginning_was_archived_is_checked_from_where_it_begins() -> None:
    rows = await recorded()
    for kept_from in range(1, 6):
        assert findings(rows[kept_from:], sealed=kept_from) == []
    changed = [
        replace(row, digest=bytes(32)) if row.position == 6 and isinstance(row, RecordedEvent) else row for row in rows
    ]
    assert [finding.position for finding in findings(changed[2:], sealed=2)] == [6]


async def test_two_incarnations_are_two_chains() -> None:
    first, second = MemoryLog("n1"), MemoryLog("n2")
    await first.append(write("a", 0, happened()))
    await second.append(write("b", 0, happened()), frames=FrameRun(0).pack([], 0)[0][:0])
    rows = [*await first.read(0, 9), *(replace(row, position=2) for row in await second.read(0, 9))]
    assert findings(rows) == []
