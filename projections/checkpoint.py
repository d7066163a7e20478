"""How far each projection has come, in the same database as its rows: committed with them, moved by compare-and-set."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from eventstore.envelope import RecordedEvent

CREATE = (
    """
    CREATE TABLE IF NOT EXISTS projection_checkpoints (
        name            TEXT PRIMARY KEY,
        version         INTEGER NOT NULL,            -- of the projection's code that made the rows
        position        INTEGER NOT NULL DEFAULT 0,  -- of the log, up to which everything is folded in
        event_position  INTEGER NOT NULL DEFAULT 0,  -- of the last ledger event seen, to know the log again
        event_digest    BLOB,
        state           TEXT NOT NULL DEFAULT '{}',  -- of a file projection, JSON
        halted_at       INTEGER,                     -- position of the event that it could not fold
        halted_type     TEXT,                        -- of it; NULL where damage has left none
        error           TEXT
    ) WITHOUT ROWID""",
    """
    CREATE TABLE IF NOT EXISTS projection_files (
        projection  TEXT NOT NULL,
        file        TEXT NOT NULL,     -- name in the data directory
        length      INTEGER NOT NULL,  -- bytes that belong to the checkpoint
        PRIMARY KEY (projection, file)
    ) WITHOUT ROWID""",
    """
    CREATE TABLE IF NOT EXISTS projection_begun (
        projection  TEXT PRIMARY KEY,
        behind      INTEGER NOT NULL   -- position up to which history was dropped when it was last begun
    ) WITHOUT ROWID""",
)


class CheckpointMoved(Exception):
    """Somebody else has moved this checkpoint since it was read; nothing of the batch is kept."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far one projection has come. `event_position` and `event_digest` name the last ledger event it saw."""

    name: str
    version: int
    position: int
    event_position: int
    event_digest: bytes | None
    state: str
    halted_at: int | None
    halted_type: str | None
    error: str | None

    @property
    def halted(self) -> bool:
        """Whether it stopped at an event that it cannot fold."""
        return self.halted_at is not None


def create(rows: sqlite3.Connection) -> None:
    """Make the tables, if they are not there."""
    for statement in CREATE:
        rows.execute(statement)


def load(rows: sqlite3.Connection) -> dict[str, Checkpoint]:
    """Every checkpoint, by the projection's name."""
    found = rows.execute(
        "SELECT name, version, position, event_position, event_digest, state, halted_at, halted_type, error"
        " FROM projection_checkpoints"
    )
    return {row[0]: Checkpoint(*row) for row in found}


def position(rows: sqlite3.Connection, name: str) -> int:
    """The position up to which a projection has folded the log; 0 where it has not begun."""
    found = rows.execute("SELECT position FROM projection_checkpoints WHERE name = ?", (name,)).fetchone()
    return found[0] if found else 0


def statuses(rows: sqlite3.Connection) -> dict[str, dict[str, Any]]:
    """For health answers, by name: `{version, position, halted}`; `halted` is None or `{position, type, error}`,
    with no type (None) where the log's row has lost it."""
    return {name: status(checkpoint) for name, checkpoint in sorted(load(rows).items())}


def status(checkpoint: Checkpoint) -> dict[str, Any]:
    """One projection's line of `statuses`."""
    halted = (
        {"position": checkpoint.halted_at, "type": checkpoint.halted_type, "error": checkpoint.error}
        if checkpoint.halted
        else None
    )
    return {"version": checkpoint.version, "position": checkpoint.position, "halted": halted}


def begin(rows: sqlite3.Connection, name: str, version: int, behind: int = 0) -> None:
    """Put a projection at the beginning of the log, whatever was there; history up to `behind` was dropped."""
    rows.execute("REPLACE INTO projection_checkpoints (name, version) VALUES (?, ?)", (name, version))
    rows.execute("REPLACE INTO projection_begun VALUES (?, ?)", (name, behind))
    rows.execute("DELETE FROM projection_files WHERE projection = ?", (name,))


def begun_behind(rows: sqlite3.Connection, name: str) -> int:
    """The position behind which a projection was begun; 0 where nothing was dropped then, or nobody knows."""
    found = rows.execute("SELECT behind FROM projection_begun WHERE projection = ?", (name,)).fetchone()
    return found[0] if found else 0


def put(rows: sqlite3.Connection, known: Checkpoint) -> None:
    """Put a projection where a checkpoint says that it was, without files."""
    rows.execute(
        "REPLACE INTO projection_checkpoints (name, version, position, event_position, event_digest, state)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (known.name, known.version, known.position, known.event_position, known.event_digest, known.state),
    )


def advance(
    rows: sqlite3.Connection, old: Checkpoint, to: int, last: RecordedEvent | None, state: str | None = None
) -> None:
    """Move a checkpoint on from `old` to position `to`; `last` is the newest ledger event up to there, if one was read.

    Raises `CheckpointMoved` where it is not at `old` any more.
    """
    moved = rows.execute(
        "UPDATE projection_checkpoints SET position = ?, event_position = ?, event_digest = ?, state = ?"
        " WHERE name = ? AND version = ? AND position = ?",
        (
            to,
            last.position if last else old.event_position,
            last.digest if last else old.event_digest,
            old.state if state is None else state,
            old.name,
            old.version,
            old.position,
        ),
    )
    if moved.rowcount != 1:
        raise CheckpointMoved(f"projection {old.name} is not at position {old.position}")


def halt(rows: sqlite3.Connection, name: str, event: RecordedEvent, error: str) -> None:
    """Record that a projection has folded everything before this event, and cannot fold this one."""
    rows.execute(
        "UPDATE projection_checkpoints SET position = ? - 1, halted_at = ?1, halted_type = ?, error = ? WHERE name = ?",
        (event.position, event.type if isinstance(event.type, str) else None, error, name),
    )


def resume(rows: sqlite3.Connection, name: str) -> None:
    """Let a halted projection try again."""
    rows.execute(
        "UPDATE projection_checkpoints SET halted_at = NULL, halted_type = NULL, error = NULL WHERE name = ?", (name,)
    )


def read_state(checkpoint: Checkpoint) -> dict[str, Any]:
    """A file projection's own state at its checkpoint; a new object each time."""
    state: dict[str, Any] = json.loads(checkpoint.state)
    return state
