"""Verification finds whatever was changed: here each change is made, one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import orjson
import pytest

from eventstore.chain import Chain, chained, unsound
from eventstore.envelope import NewEvent, Recorded, RecordedEvent, RecordedFrames
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
    "codec": lambda row: replace(row, codec=1),
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


@pytest.mark.parametrize("missing", [2, 3])
async def test_a_missing_row_behind_the_archive_is_found(missing: int) -> None:
    """Frames, whose run begins in the archive, and which no chain binds."""
    rows = await recorded()
    found = [row for row in rows[1:] if row.position != missing + 1]
    assert missing + 2 in {finding.position for finding in findings(found, sealed=1)}


async def test_a_row_that_is_there_twice_is_found() -> None:
    rows = await recorded()
    assert any("positions" in finding.what for finding in findings([*rows, rows[2]], sealed=2))


def told(*events: tuple[int, int]) -> list[Recorded]:
    """A stream of these versions, at these microseconds: otherwise as it should be, the chain included."""
    chain, rows = Chain("n1"), list[Recorded]()
    for position, (version, at) in enumerate(events, 1):
        chain.at = at - 1
        data = chain.link(happened(), "a", version, at)
        row = RecordedEvent(position, "n1", chain.oseq, "a", version, "thing_happened", at, 0, data, chain.digest)
        rows.append(row)
    return rows


@pytest.mark.parametrize(
    ("second", "what"),
    [
        ((2, 20), None),
        ((3, 20), "version 3 of a follows 1"),
        ((1, 20), "version 1 of a follows 1"),
        ((2, 10), "the clock of n1 went back"),
        ((2, 9), "the clock of n1 went back"),
    ],
)
def test_an_event_that_a_chain_binds_must_follow_in_version_and_time(second: tuple[int, int], what: str | None) -> None:
    assert [finding.what for finding in findings(told((1, 10), second))] == ([what] if what else [])


def test_an_envelope_that_does_not_end_where_it_should_is_found() -> None:
    (row,) = told((1, 10))
    assert isinstance(row, RecordedEvent)
    data = row.data.replace(b'Z"', b'Z"x')
    changed = replace(row, data=data, digest=chained(b"", data))
    assert [finding.what for finding in findings([changed])] == ["the columns and the data differ"]


def test_a_row_alone_is_sound_where_its_digest_is_that_of_the_chain() -> None:
    first, second, third = (row for row in told((1, 10), (2, 20), (3, 30)) if isinstance(row, RecordedEvent))
    wrong = "the digest does not match the data and the digest before it"
    assert [unsound(first, None), unsound(second, first.digest), unsound(third, second.digest)] == [None] * 3
    assert unsound(second, None) is None, "what came before is not here"
    assert [unsound(second, bytes(32)), unsound(third, first.digest)] == [wrong] * 2
    assert unsound(replace(first, digest=bytes(32)), None) == wrong, "before the first there is nothing"
    assert unsound(replace(second, at=21), first.digest) == "the columns and the data differ"


@pytest.mark.parametrize("count", [1, 3])
async def test_an_end_that_binds_another_number_of_frames_is_found(count: int) -> None:
    log = MemoryLog()
    opened = await log.append(write("r", 0, NewEvent("run_opened", 1, b"{}")))
    run = FrameRun(opened.last)
    for frame in (b"x", b"y"):
        await log.append(frames=run.pack([frame], offset_us=run.count)[0])
    closing = orjson.dumps({"frames": count, "frames_digest": run.digest})
    await log.append(write("r", 1, NewEvent("run_closed", 1, closing)))
    assert [finding.what for finding in findings(await log.read(0, 9))] == [
        f"the run of position 1 has 2 frames, its end says {count}"
    ]


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
