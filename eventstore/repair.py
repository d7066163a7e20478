"""What a damaged log should hold, found again from its own sound bytes and from copies of what is not. No I/O.

The chain decides for the ledger: of the candidates for an origin's next event, the one whose digest is that of the
digest before it and its bytes. All other columns follow from the bytes. For the frames the event that closes their run
decides, by count and digest: of all that is known of the run, those rows that together are what it binds.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import orjson

from eventstore.chain import chained
from eventstore.envelope import RecordedEvent, RecordedFrames
from eventstore.errors import LogCorrupt
from eventstore.frames import FrameReader
from eventstore.ingest import PulledEvent, parsed
from eventstore.verify import RunClosed, RunOf, RunOpened

Place = tuple[str, int]
"""An event's origin and oseq."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A ledger row as the file has it: of its columns only these matter."""

    position: int
    data: bytes
    digest: bytes


@dataclass(slots=True)
class Copies:
    """What JetStream has of the log: events by their place, with the position that they had when they were published;
    frames rows by the event that opened their run, and by their first frame."""

    events: dict[Place, tuple[int, PulledEvent]] = field(default_factory=dict)
    rows: dict[Place, dict[int, RecordedFrames]] = field(default_factory=dict)


@dataclass(slots=True)
class Mended:
    """The log as it was written: every row by position, which of them are not as the file has them, and what could not
    be found again, a sentence each."""

    events: dict[int, RecordedEvent] = field(default_factory=dict)
    frames: dict[int, RecordedFrames] = field(default_factory=dict)
    changed_events: list[int] = field(default_factory=list)
    changed_frames: list[int] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def mend_events(kept: Sequence[Kept], copies: Copies, mended: Mended) -> None:
    """Find every event of every chain again."""
    local: dict[Place, list[Kept]] = {}
    for row in kept:
        if place := _place(row.data):
            local.setdefault(place, []).append(row)
    head = max((row.position for row in kept), default=0)
    known = {*local, *(place for place, (position, _) in copies.events.items() if position <= head)}
    last: dict[str, int] = {}
    for origin, oseq in known:
        last[origin] = max(last.get(origin, 0), oseq)
    for origin in sorted(last):
        _mend_chain(origin, last[origin], local, copies, mended)


def _place(data: bytes) -> Place | None:
    """Whose event the bytes say they are."""
    try:
        body = orjson.loads(data)
        origin, oseq = body["origin"], body["oseq"]
    except (ValueError, TypeError, KeyError):
        return None
    return (origin, oseq) if type(origin) is str and type(oseq) is int else None


def _mend_chain(origin: str, last: int, local: Mapping[Place, Sequence[Kept]], copies: Copies, mended: Mended) -> None:
    digest = b""
    for oseq in range(1, last + 1):
        found = _next(digest, local.get((origin, oseq), ()), copies.events.get((origin, oseq)))
        if found is None or found[0] in mended.events:
            mended.lost.append(f"event {oseq} of {origin}, up to its event {last}: nobody has it as it was written")
            return
        position, data, changed = found
        digest = chained(digest, data)
        row = parsed(PulledEvent(origin, oseq, data, digest))
        assert row is not None, "its digest is right, so it is what was written"
        mended.events[position] = replace(row, position=position)
        if changed:
            mended.changed_events.append(position)


def _next(before: bytes, local: Sequence[Kept], copy: tuple[int, PulledEvent] | None) -> tuple[int, bytes, bool] | None:
    """Position and bytes of the event after the digest `before`, and whether the file has it otherwise."""
    for kept in local:
        if chained(before, kept.data) == kept.digest:
            return kept.position, kept.data, False
    if copy is None or chained(before, copy[1].data) != copy[1].digest:
        return None
    same = [kept.position for kept in local if kept.data == copy[1].data]
    return same[0] if same else copy[0], copy[1].data, True


def mend_frames(kept: Sequence[RecordedFrames], copies: Copies, run_of: RunOf, mended: Mended) -> None:
    """Find the rows of every run again; call it with all events mended. Of a run that nothing closes, what the file has
    is kept as it is."""
    by_run: dict[int, dict[int, RecordedFrames]] = {}
    for row in kept:
        by_run.setdefault(row.generation, {})[row.frame] = row
    opened: dict[Hashable, RecordedEvent] = {}
    for position in sorted(mended.events):
        event = mended.events[position]
        match run_of(event):
            case RunOpened(key):
                opened[key] = event
            case RunClosed(key) as closed if key in opened:
                opening = opened.pop(key)
                local = by_run.get(opening.position, {})
                copied = copies.rows.get((opening.origin, opening.oseq), {})
                _mend_run(opening.position, closed, local, copied, mended)
    for event in opened.values():
        mended.frames.update({row.position: row for row in by_run.get(event.position, {}).values()})


def _mend_run(
    generation: int,
    closed: RunClosed,
    local: Mapping[int, RecordedFrames],
    copied: Mapping[int, RecordedFrames],
    mended: Mended,
) -> None:
    """The first of: the file's rows, the copied rows, the copied rows with the file's where there is no copy."""
    for rows in (local, copied, {**local, **copied}):
        if (whole := _bound(generation, closed, rows)) is not None:
            mended.frames.update({row.position: row for row in whole})
            ours = {row.position: row for row in local.values()}
            mended.changed_frames += [row.position for row in whole if ours.get(row.position) != row]
            return
    mended.lost.append(f"the frames of position {generation}: nobody has them as they were written")


def _bound(generation: int, closed: RunClosed, rows: Mapping[int, RecordedFrames]) -> list[RecordedFrames] | None:
    """These rows in order, linked up, if they are what the closing event binds."""
    reader, found, last = FrameReader(), [], 0
    try:
        while reader.count < closed.count and (row := rows.get(reader.count + 1)):
            reader.parts(row)
            back = row.position - last if last else 0
            found.append(replace(row, generation=generation, back=back))
            last = row.position
    except LogCorrupt:
        return None
    in_order = all(one.back > 0 for one in found[1:])
    return found if in_order and (reader.count, reader.digest) == (closed.count, closed.digest) else None
