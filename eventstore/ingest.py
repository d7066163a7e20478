"""Events that are chained already: an earlier incarnation's, come back from outside, into the log at new positions.

A log that was restored from an older copy lacks the end of what this node wrote. Where another copy still has that
end, it is taken in here: by the one writer, in transactions of its own, each event once, in its origin's order, and
only if its digest is that of the digest before it and its bytes. Everything in the row but the position is as it was.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from eventstore.batch import Tail
from eventstore.chain import PLAIN, chained, disagreement
from eventstore.envelope import RecordedEvent
from eventstore.rows import STREAM_END
from eventstore.value import value

_LAST = """
SELECT origins.id, ifnull(ledger.oseq, archived.oseq), ifnull(ledger.digest, archived.digest) FROM origins
LEFT JOIN ledger ON ledger.origin = origins.id LEFT JOIN archived_origins AS archived ON archived.origin = origins.id
WHERE origins.name = ? ORDER BY ledger.oseq DESC LIMIT 1
"""
_AT = "SELECT position, digest FROM ledger WHERE origin = ? AND oseq = ?"
_RUN_END = """
SELECT position, frame + count FROM frames WHERE generation = :generation AND position > :generation
ORDER BY position DESC LIMIT 1
"""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@value
class PulledFrames:
    """A row of the frames lane, as it was written. `origin` and `opened` (its oseq) name the event that opened its
    run."""

    origin: str
    opened: int
    frame: int
    count: int
    offset_us: int
    codec: int
    bytes: bytes


@value
class PulledEvent:
    """A ledger event as its origin wrote it, and the frames rows that belong just `before` and `after` it: those of
    the run that it closes, and those of runs that nothing closes."""

    origin: str
    oseq: int
    data: bytes
    digest: bytes
    before: tuple[PulledFrames, ...] = ()
    after: tuple[PulledFrames, ...] = ()


@dataclass(slots=True)
class Taken:
    """What became of events that were offered: how many events and frames rows are new in the log; `last` is its head;
    `refused` says for each origin of which something was not taken, what and why."""

    events: int = 0
    frames: int = 0
    last: int = 0
    refused: dict[str, str] = field(default_factory=dict)


class Intake:
    """Takes events in on the writer's connection, in a transaction that the caller commits; then call `settle`."""

    def __init__(self, connection: sqlite3.Connection, tail: Tail) -> None:
        self._connection, self._tail = connection, tail
        self._position, self._last_stream_id, self._at = tail.position, tail.last_stream_id, tail.chain.at
        self._new_types: dict[str, int] = {}
        self._touched: set[str] = set()
        self._runs: dict[int, tuple[int, int]] = {}
        self._taken = Taken()

    def take(self, pulled: Sequence[PulledEvent]) -> Taken:
        """Store what is new and fits, in this order. After an origin's first refused event none of it is taken."""
        for event in pulled:
            if event.origin not in self._taken.refused and (why := self._offer(event)):
                self._taken.refused[event.origin] = f"event {event.oseq} of {event.origin}: {why}"
        self._taken.last = self._position
        return self._taken

    def settle(self) -> None:
        """It is committed: what the writer knows of the log's end includes it."""
        tail = self._tail
        tail.position, tail.last_stream_id = self._position, self._last_stream_id
        tail.chain.at = max(tail.chain.at, self._at)
        tail.types.update(self._new_types)
        for name in self._touched:
            tail.streams.pop(name, None)  # looked up again when it is needed

    def _offer(self, event: PulledEvent) -> str | None:
        """Why the event is refused; None if it is in the log now, or was before."""
        if event.origin == self._tail.chain.origin:
            return "the incarnation that runs writes its own events"
        origin, oseq, digest = self._known(event.origin)
        if event.oseq <= oseq and self._is_repeated(event):
            return self._repeated(origin, event)
        if not self._follows(event, oseq, digest):
            return f"it does not chain to event {oseq}, the last one here"
        row = parsed(event)
        if row is None or (what := disagreement(row)):
            return "it is no event" if row is None else what
        return self._store(event, row, origin)

    def _known(self, origin: str) -> tuple[int, int, bytes]:
        """The origin's id (0: it has none), the last oseq here (0: none), and the digest there."""
        found = self._connection.execute(_LAST, (origin,)).fetchone() or (0, 0, b"")
        return found[0], found[1] or 0, found[2] or b""

    def _is_repeated(self, event: PulledEvent) -> bool:
        """Whether an event that is not past the last one here was here before."""
        return True

    def _follows(self, event: PulledEvent, oseq: int, digest: bytes) -> bool:
        """Whether it is the next event of its chain."""
        return event.oseq == oseq + 1 and event.digest == chained(digest, event.data)

    def _repeated(self, origin: int, event: PulledEvent) -> str | None:
        found = self._connection.execute(_AT, (origin, event.oseq)).fetchone()
        return None if found is None or found[1] == event.digest else "the log holds another event there"

    def _store(self, event: PulledEvent, row: RecordedEvent, origin: int) -> str | None:
        stream, version = self._connection.execute(STREAM_END, (row.stream,)).fetchone() or (0, 0)
        if row.version != version + 1:
            return f"it is version {row.version} of {row.stream}, which is at version {version} here"
        if not origin:
            origin = self._insert("origins (name)", event.origin)
        if not stream:
            self._last_stream_id = stream = self._last_stream_id + 1
            self._insert("streams", stream, row.stream)
        self._store_frames(event.before)
        self._position += 1
        columns = (
            origin,
            event.oseq,
            stream,
            row.version,
            self._type_id(row.type),
            row.at,
            PLAIN,
            row.data,
            row.digest,
        )
        self._insert("ledger", self._position, *columns)
        self._taken.events += 1
        self._at = max(self._at, row.at)
        self._touched.add(row.stream)
        self._store_frames(event.after)
        return None

    def _store_frames(self, frames: Sequence[PulledFrames]) -> None:
        """Those that go on where their run ends here; others are here already, or their run has a gap before them."""
        for row in frames:
            opening = self._connection.execute(_AT, (self._known(row.origin)[0], row.opened)).fetchone()
            if opening is None:
                continue
            generation: int = opening[0]
            last, due = self._run_end(generation)
            if self._is_due(row, due):
                self._position += 1
                back = self._position - last if last else 0
                columns = (generation, back, row.frame, row.count, row.offset_us, row.codec, row.bytes)
                self._insert("frames", self._position, *columns)
                self._runs[generation] = self._position, row.frame + row.count
                self._taken.frames += 1

    def _is_due(self, row: PulledFrames, due: int) -> bool:
        return row.frame == due

    def _run_end(self, generation: int) -> tuple[int, int]:
        """The position of the run's last row here (0: it has none), and the number of the frame that comes next."""
        if generation not in self._runs:
            found = self._connection.execute(_RUN_END, {"generation": generation}).fetchone()
            self._runs[generation] = found or (0, 1)
        return self._runs[generation]

    def _type_id(self, name: str) -> int:
        known = self._tail.types.get(name) or self._new_types.get(name)
        if known is None:
            known = self._new_types[name] = len(self._tail.types) + len(self._new_types) + 1
            self._insert("types", known, name)
        return known

    def _insert(self, table: str, *columns: Any) -> int:
        marks = ",".join("?" * len(columns))
        done = self._connection.execute(f"INSERT INTO {table} VALUES ({marks})", columns)  # noqa: S608  our own names
        return done.lastrowid or 0


def parsed(event: PulledEvent) -> RecordedEvent | None:
    """The row that the event's bytes describe, at no position yet; None where they are no event."""
    try:
        body = orjson.loads(event.data)
        at = (datetime.fromisoformat(body["time"]) - _EPOCH) // timedelta(microseconds=1)
        lead = 0, event.origin, event.oseq, body["stream"], body["version"], body["type"]
        row = RecordedEvent(*lead, at, PLAIN, event.data, event.digest)
        row.stream.encode(), row.type.encode()
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return row
