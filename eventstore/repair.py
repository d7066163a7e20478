"""What a damaged log should hold, found again from its own sound bytes and from copies of what is not. No I/O.

The chain decides for the ledger: of the candidates for an origin's next event, the one whose digest is that of the
digest before it and its bytes. All other columns follow from the bytes. For the frames the event that closes their run
decides, by count and digest: of all that is known of the run, those rows that together are what it binds.

A log with an archive is mended in stretches, one a file: each archived segment, then `events.db`. What a stretch must
know of those before it is `Before`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter

import orjson

from eventstore.chain import chained
from eventstore.envelope import Recorded, RecordedEvent, RecordedFrames
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
class Before:
    """What lies before a stretch: up to which position, where the origins' chains stand there (not all are known where
    rows were `dropped`), and the runs that are open there, with their rows."""

    through: int = 0
    dropped: bool = False
    ends: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    opened: dict[Hashable, RecordedEvent] = field(default_factory=dict)
    rows: dict[int, list[RecordedFrames]] = field(default_factory=dict)

    @classmethod
    def dropped_at(cls, position: int, copies: Copies, run_of: RunOf) -> Before:
        """What lies before all that is left: nothing where nothing was dropped, else the runs that copies know of."""
        before = cls(dropped=position > 0)
        for at, event in sorted(copies.events.values(), key=itemgetter(0)):
            if at <= position and (row := parsed(event)):
                before.add(replace(row, position=at), run_of)
        for opening in before.opened.values():
            rows = [row for _, row in sorted(_copied(copies, opening).items()) if row.position <= position]
            before.rows[opening.position] = _linked(opening.position, rows)
        before.through = position
        before.ends = {}  # copies may stand elsewhere than here, so chains are not gone on with
        return before

    def add(self, row: Recorded, run_of: RunOf) -> None:
        """The next row, which is as it was written."""
        self.through = row.position
        if isinstance(row, RecordedFrames):
            self.rows.setdefault(row.generation, []).append(row)
            return
        self.ends[row.origin] = row.oseq, row.digest
        match run_of(row):
            case RunOpened(key):
                self.opened[key] = row
            case RunClosed(key) if opening := self.opened.pop(key, None):
                self.rows.pop(opening.position, None)


@dataclass(slots=True)
class Mended:
    """A stretch as it was written, the rows behind `after` up to `head`: every row by position, which of them are not
    as the file has them, and what could not be found again, a sentence each."""

    after: int
    head: int

    events: dict[int, RecordedEvent] = field(default_factory=dict)
    frames: dict[int, RecordedFrames] = field(default_factory=dict)
    changed_events: list[int] = field(default_factory=list)
    changed_frames: list[int] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def mend_events(kept: Sequence[Kept], copies: Copies, mended: Mended, before: Before) -> None:
    """Find every event of every chain again."""
    local: dict[Place, list[Kept]] = {}
    for row in kept:
        if place := _place(row.data):
            local.setdefault(place, []).append(row)
    copied = (place for place, (position, _) in copies.events.items() if mended.after < position <= mended.head)
    spans: dict[str, list[int]] = {}
    for origin, oseq in {*local, *copied}:
        spans.setdefault(origin, []).append(oseq)
    for origin in sorted(spans):
        _mend_chain(origin, spans[origin], local, copies, mended, before)


def _place(data: bytes) -> Place | None:
    """Whose event the bytes say they are."""
    try:
        body = orjson.loads(data)
        origin, oseq = body["origin"], body["oseq"]
    except (ValueError, TypeError, KeyError):
        return None
    return (origin, oseq) if type(origin) is str and type(oseq) is int else None


def _mend_chain(
    origin: str,
    oseqs: Sequence[int],
    local: Mapping[Place, Sequence[Kept]],
    copies: Copies,
    mended: Mended,
    before: Before,
) -> None:
    last = max(oseqs)
    end, digest = _end(origin, min(oseqs) - 1, copies, before)
    for oseq in range(end + 1, last + 1):
        found = _next(digest, local.get((origin, oseq), ()), copies.events.get((origin, oseq)))
        row = found and parsed(PulledEvent(origin, oseq, found[1], found[2]))
        if found is None or row is None or found[0] in mended.events:
            mended.lost.append(f"event {oseq} of {origin}, up to its event {last}: nobody has it as it was written")
            return
        position, _, digest, changed = found
        mended.events[position] = replace(row, position=position)
        if changed:
            mended.changed_events.append(position)


def _end(origin: str, oseq: int, copies: Copies, before: Before) -> tuple[int, bytes | None]:
    """Where a chain stood when the stretch began, of which something is there behind `oseq`. None for a digest that
    went with what was dropped."""
    if origin in before.ends or not before.dropped or oseq == 0:
        return before.ends.get(origin, (0, b""))
    copy = copies.events.get((origin, oseq))
    return oseq, copy[1].digest if copy else None


def _next(
    before: bytes | None, local: Sequence[Kept], copy: tuple[int, PulledEvent] | None
) -> tuple[int, bytes, bytes, bool] | None:
    """Position, bytes and digest of the event after the digest `before`, and whether the file has it otherwise. Where
    that digest is not known the event is taken as it is: the one after it must fit."""
    for kept in local:
        if before is None or chained(before, kept.data) == kept.digest:
            return kept.position, kept.data, kept.digest, False
    if copy is None or (before is not None and chained(before, copy[1].data) != copy[1].digest):
        return None
    same = [kept.position for kept in local if kept.data == copy[1].data]
    return same[0] if same else copy[0], copy[1].data, copy[1].digest, True


def mend_frames(kept: Sequence[RecordedFrames], copies: Copies, run_of: RunOf, mended: Mended, before: Before) -> None:
    """Find the rows of every run again; call it with all events mended. Of a run that the stretch does not close, or
    whose beginning was dropped, what the file has is kept as it is, and what it lacks is copied."""
    by_run = {generation: {row.frame: row for row in rows} for generation, rows in before.rows.items()}
    for row in kept:
        by_run.setdefault(row.generation, {})[row.frame] = row
    opened, ended = dict(before.opened), []
    for position in sorted(mended.events):
        event = mended.events[position]
        match run_of(event):
            case RunOpened(key):
                opened[key] = event
            case RunClosed(key) as closed if key in opened:
                ended.append((opened.pop(key), closed))
    if before.dropped:
        mended.frames.update({row.position: row for row in kept if row.generation <= before.through})
    for event in opened.values():
        _keep_run(event.position, by_run.get(event.position, {}), _copied(copies, event), mended)
    for opening, closed in ended:
        local = by_run.get(opening.position, {})
        _mend_run(opening.position, closed, local, _copied(copies, opening), mended)


def _copied(copies: Copies, opening: RecordedEvent) -> Mapping[int, RecordedFrames]:
    return copies.rows.get((opening.origin, opening.oseq), {})


def _keep_run(
    generation: int,
    local: Mapping[int, RecordedFrames],
    copied: Mapping[int, RecordedFrames],
    mended: Mended,
) -> None:
    rows = _linked(generation, [row for _, row in sorted({**copied, **local}.items())])
    _put(rows, local, mended)


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
            _put(whole, local, mended)
            return
    mended.lost.append(f"the frames of position {generation}: nobody has them as they were written")


def _put(rows: Sequence[RecordedFrames], local: Mapping[int, RecordedFrames], mended: Mended) -> None:
    ours = {row.position: row for row in local.values()}
    here = [row for row in rows if mended.after < row.position <= mended.head]
    mended.frames.update({row.position: row for row in here})
    mended.changed_frames += [row.position for row in here if ours.get(row.position) != row]


def _linked(generation: int, rows: Sequence[RecordedFrames]) -> list[RecordedFrames]:
    """These rows of a run, in order, each with its distance to the one before."""
    found, last = [], 0
    for row in rows:
        found.append(replace(row, generation=generation, back=row.position - last if last else 0))
        last = row.position
    return found


def _bound(generation: int, closed: RunClosed, rows: Mapping[int, RecordedFrames]) -> list[RecordedFrames] | None:
    """These rows in order, linked up, if they are what the closing event binds."""
    reader, taken = FrameReader(), []
    try:
        while reader.count < closed.count and (row := rows.get(reader.count + 1)):
            reader.parts(row)
            taken.append(row)
    except LogCorrupt:
        return None
    found = _linked(generation, taken)
    in_order = all(one.back > 0 for one in found[1:])
    return found if in_order and (reader.count, reader.digest) == (closed.count, closed.digest) else None


def missing(mended: Mended) -> list[str]:
    """What keeps the mended rows from being the whole stretch, in which every position belongs to one."""
    positions = mended.events.keys() | mended.frames.keys()
    found = []
    if both := mended.events.keys() & mended.frames.keys():
        found.append(f"position {min(both)}: two rows belong there")
    if gone := sorted(set(range(mended.after + 1, mended.head + 1)) - positions):
        found.append(f"{len(gone)} rows, the first at position {gone[0]}: nobody has them")
    return found
