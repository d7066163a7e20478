"""Folds the log into every projection: bounded batches, rows and checkpoints in one transaction of `projections.db`.

Synchronous, for a process of its own beside the server (or the replay command). It keeps nothing in memory that the
database does not hold, so a restart, or a second engine that makes a projection anew, needs no agreement.

A projection whose version was raised, whose files were deleted, or whose checkpoint names an event that the log does
not hold (a restored copy, another log) starts from the beginning, in place: the queries of a new version could not read
the rows of the old one. Until it has caught up, its position is behind the log's head, and answers made from it say
that they are stale. Where the beginning of the log was dropped, tables begin with the snapshot that was taken of it;
files begin behind it, and what they held is set aside under another name.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from eventstore.chain import Chains
from eventstore.envelope import RecordedEvent
from eventstore.errors import LogUnavailable
from projections import checkpoint as checkpoints
from projections import db, snapshots
from projections.checkpoint import Checkpoint
from projections.files import ProjectionFiles, set_aside
from projections.projection import Projection, Source, is_file_projection, is_table_projection
from projections.registry import REGISTRY

logger = logging.getLogger(__name__)

ERROR_LENGTH = 300
"""Characters of an error that are kept for health answers."""


class Engine:
    """Every projection of one data directory. One thread uses it. `reader` is the log, open for reading."""

    open_rows = staticmethod(db.open_writer)
    """How the database is opened; tests record what it writes."""

    def __init__(self, data_dir: Path, reader: Source, projections: Sequence[Projection] = REGISTRY) -> None:
        self._data_dir = data_dir
        self._path = data_dir / db.NAME
        self._reader = reader
        self._projections = {projection.name: projection for projection in projections}
        self._files = {
            projection.name: ProjectionFiles(data_dir, projection.name, projection.patterns)
            for projection in projections
            if is_file_projection(projection)
        }
        self._open()

    def step(self, limit: int = 500) -> bool:
        """Fold the next batch, at most `limit` ledger events, into every projection. True where more is waiting.

        Projections at one position share one read of the log. Raises `OSError`, `sqlite3.Error` and `LogError` where
        the disk or the log fails: nothing of the batch is kept then, and a later call goes on from where it was.
        """
        if db.file_id(self._path) != self._file:
            self._reopen()
        try:
            with db.transaction(self._rows):
                self._mend_files()
                return self._fold_all(limit)
        except sqlite3.DatabaseError as error:
            if not db.is_damaged(error) or self._sound():
                raise
            self._reopen(anew=True)
            return True

    def positions(self) -> dict[str, int]:
        """How far each projection has come, by name."""
        return {name: checkpoint.position for name, checkpoint in self._checkpoints().items()}

    def status(self) -> dict[str, dict[str, Any]]:
        """`{name: {version, position, halted}}`; `halted` is None, or `{position, type, error}` of the event that the
        projection cannot fold. `checkpoint.statuses` says the same to readers of the database."""
        return {name: checkpoints.status(checkpoint) for name, checkpoint in self._checkpoints().items()}

    def rebuild(self, name: str) -> None:
        """Put one projection back to the beginning; the next steps fold the log into it again. Works beside a running
        engine of another process, which goes on from there. Raises `KeyError` for an unknown name."""
        projection = self._projections[name]
        with db.transaction(self._rows):
            self._reset(projection)

    def close(self) -> None:
        """Let the database go."""
        self._rows.close()

    def _open(self) -> None:
        self._rows = self.open_rows(self._path)
        self._file = db.file_id(self._path)
        with db.transaction(self._rows):
            checkpoints.create(self._rows)
            known = checkpoints.load(self._rows)
            for projection in self._projections.values():
                self._prepare(projection, known.get(projection.name))
            db.mark_ready(self._rows)

    def _prepare(self, projection: Projection, known: Checkpoint | None) -> None:
        files = self._files.get(projection.name)
        if (
            known is None
            or known.version != projection.version
            or not self._log_holds(known)
            or (files is not None and not files.settle(self._rows))
        ):
            self._reset(projection)
        elif known.halted:
            checkpoints.resume(self._rows, projection.name)

    def _log_holds(self, known: Checkpoint) -> bool:
        """Whether this log is the one that the checkpoint was made from, and as long: up to the checkpoint its last
        event is the one that was seen last. Behind that were frames, in whose place a log set back may have events."""
        if known.position > self._reader.head():
            return False
        found = list(_ledger(self._reader, max(known.event_position - 1, 0), 2, known.position))
        seen = [(known.event_position, known.event_digest)] if known.event_position else []
        return [(event.position, event.digest) for event in found] == seen

    def _reset(self, projection: Projection) -> None:
        """Back to the beginning; where that was dropped, to what was left of it."""
        dropped, behind = self._reader.dropped(), checkpoints.begun_behind(self._rows, projection.name)
        checkpoints.begin(self._rows, projection.name, projection.version, dropped)
        if is_table_projection(projection):
            projection.truncate(self._rows)
            projection.create(self._rows)
            snapshots.restore(self._rows, self._reader, projection)
        elif dropped > behind:  # what the files hold of that cannot be made again
            set_aside(self._data_dir, [projection])
        else:
            self._files[projection.name].remove()

    def _reopen(self, anew: bool = False) -> None:
        self._rows.close()
        if anew:
            db.remove(self._path)
        self._open()

    def _sound(self) -> bool:
        """Whether the damage is elsewhere: in the log, which its own `verify` names."""
        try:
            (found,) = self._rows.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.DatabaseError:
            return False
        return bool(found == "ok")

    def _mend_files(self) -> None:
        for name, files in self._files.items():
            if not files.whole(self._rows):
                self._reset(self._projections[name])

    def _checkpoints(self) -> dict[str, Checkpoint]:
        known = checkpoints.load(self._rows)
        return {name: known[name] for name in self._projections}

    def _fold_all(self, limit: int) -> bool:
        head = self._reader.head()
        groups: dict[int, list[Checkpoint]] = {}
        for checkpoint in self._checkpoints().values():
            if not checkpoint.halted and checkpoint.position < head:
                groups.setdefault(checkpoint.position, []).append(checkpoint)
        more = False
        for position, group in groups.items():
            events, damaged = self._read(position, max(each.event_position for each in group), limit, head)
            if position == 0 and events and events[0].position > 1:
                names = ", ".join(checkpoint.name for checkpoint in group)
                logger.warning(
                    "%s: made anew from position %d on, what lay before was dropped", names, events[0].position
                )
            full = len(events) == limit
            reached = damaged[0].position - 1 if damaged else events[-1].position if full else head
            for checkpoint in group:
                if self._fold(checkpoint, events, reached) and damaged:
                    checkpoints.halt(self._rows, checkpoint.name, *damaged)
            more = more or (full and reached < head)
        return more

    def _read(
        self, after: int, seen: int, limit: int, until: int
    ) -> tuple[list[RecordedEvent], tuple[RecordedEvent, str] | None]:
        """The next events, each compared with itself and the one before it in its chain; `seen` is the position of the
        last one before them. Where one is not as it was written: those before it, that one, and what is wrong."""
        chains, events = Chains(), list[RecordedEvent]()
        for event in _ledger(self._reader, seen - 1, 1, seen) if seen else ():
            chains.learn(event)
        for event in _ledger(self._reader, after, limit, until):
            if what := chains.unsound(event):
                return events, (event, f"the log is damaged: {what}")
            events.append(event)
        return events, None

    def _fold(self, checkpoint: Checkpoint, events: Sequence[RecordedEvent], reached: int) -> bool:
        """Fold a batch into one projection; on failure event by event, up to the one that it cannot fold. Returns
        whether it folded all."""
        last = events[-1] if events else None
        if self._try(checkpoint, events, reached, last) is None:
            return True
        for event in events:
            error = self._try(checkpoint, [event], event.position, event)
            if error is not None:
                checkpoints.halt(self._rows, checkpoint.name, event, _describe(error))
                return False
            checkpoint = checkpoints.load(self._rows)[checkpoint.name]
        return True

    def _try(
        self, checkpoint: Checkpoint, events: Sequence[RecordedEvent], to: int, last: RecordedEvent | None
    ) -> Exception | None:
        """Rows and checkpoint for these events, or neither and the error that one of them caused."""
        projection = self._projections[checkpoint.name]
        handled = [event for event in events if event.type in projection.handles]
        try:  # a poison event may raise anything; it stops this projection alone
            with db.savepoint(self._rows):
                state = self._apply(projection, handled, checkpoint) if handled else None
                checkpoints.advance(self._rows, checkpoint, to, last, state)
        except (checkpoints.CheckpointMoved, LogUnavailable):
            raise
        except Exception as error:
            if db.is_of_surroundings(error):
                raise
            return error
        return None

    def _apply(self, projection: Projection, events: Sequence[RecordedEvent], checkpoint: Checkpoint) -> str | None:
        """The projection's new state, if it keeps one."""
        if is_table_projection(projection):
            projection.apply(events, self._rows)
        if not is_file_projection(projection):
            return None
        state = checkpoints.read_state(checkpoint)
        lines = projection.lines(events, state, self._reader)
        self._files[projection.name].append(self._rows, lines)
        return json.dumps(state)


def _ledger(reader: Source, after: int, limit: int, until: int) -> Iterator[RecordedEvent]:
    for row in reader.read(after, limit, until=until, frames=False):
        if isinstance(row, RecordedEvent):
            yield row


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:ERROR_LENGTH]
