"""What became of each session: its turns, their tokens and what they cost.

A session's tokens and cost are those of its own turns, compactions and abandoned ones too; a fork begins at nothing.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from eventstore.catalogue.values import Usd
from eventstore.envelope import RecordedEvent
from projections import checkpoint, db
from projections.events import amount, iso, money, newest, summed
from projections.listing import newest_first
from projections.projection import Rows

CREATE = (
    """
    CREATE TABLE IF NOT EXISTS sessions (
        position    INTEGER PRIMARY KEY,         -- of its first event: the order of lists
        id          TEXT NOT NULL UNIQUE,
        key         TEXT NOT NULL,
        model       TEXT,
        title       TEXT,
        metadata    TEXT,                        -- JSON
        parent_id   TEXT,
        at          INTEGER NOT NULL DEFAULT 0,  -- the parent's turn that it begins from
        version     INTEGER NOT NULL,            -- of its stream
        turn        INTEGER NOT NULL DEFAULT 0,  -- the one that it goes on from
        busy        INTEGER NOT NULL DEFAULT 0,
        updated_at  INTEGER NOT NULL,            -- microseconds since 1970, as are all times
        deleted     INTEGER NOT NULL DEFAULT 0
    )""",
    """
    CREATE TABLE IF NOT EXISTS sessions_turns (
        request_id    TEXT PRIMARY KEY,
        session_id    TEXT NOT NULL,
        turn          INTEGER NOT NULL,
        before        INTEGER NOT NULL,
        purpose       TEXT NOT NULL,
        state         TEXT NOT NULL,             -- running, completed, compacted, abandoned
        reason        TEXT,
        carried       INTEGER NOT NULL,
        dropped       INTEGER NOT NULL,
        started_at    INTEGER NOT NULL,
        ended_at      INTEGER,
        tokens_input  INTEGER NOT NULL DEFAULT 0,
        tokens_output INTEGER NOT NULL DEFAULT 0,
        cost          INTEGER                    -- 1e-12 USD
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS sessions_turns_session ON sessions_turns (session_id, turn)",
)

_MOVED = "UPDATE sessions SET version = ?, updated_at = ? WHERE id = ?"


def _created(event: RecordedEvent, body: dict[str, Any], rows: Rows) -> None:
    metadata = None if body.get("metadata") is None else json.dumps(body["metadata"], ensure_ascii=False)
    rows.execute(
        "INSERT INTO sessions (position, id, key, model, title, metadata, version, updated_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            event.position,
            body["session_id"],
            body["key"],
            body.get("model"),
            body.get("title"),
            metadata,
            event.version,
            event.at,
        ),
    )


def _forked(event: RecordedEvent, body: dict[str, Any], rows: Rows) -> None:
    rows.execute(
        "UPDATE sessions SET parent_id = :parent, at = :at, turn = :at,"
        " model = coalesce(model, (SELECT model FROM sessions WHERE id = :parent)) WHERE id = :id",
        {"parent": body["parent_id"], "at": body["at"], "id": body["session_id"]},
    )


def _turn_started(event: RecordedEvent, body: dict[str, Any], rows: Rows) -> None:
    names = ("request_id", "session_id", "turn", "before", "purpose", "carried", "dropped")
    rows.execute(
        "INSERT INTO sessions_turns"
        " (request_id, session_id, turn, before, purpose, carried, dropped, state, started_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, 'running', ?)",
        (*(body[name] for name in names), event.at),
    )
    rows.execute("UPDATE sessions SET busy = 1 WHERE id = ?", (body["session_id"],))


def _turn_ended(event: RecordedEvent, body: dict[str, Any], rows: Rows) -> None:
    state = event.type.rpartition("_")[2]
    rows.execute(
        "UPDATE sessions_turns SET state = ?, reason = ?, ended_at = ?, cost = ? WHERE request_id = ?",
        (state, body.get("reason"), event.at, money(body["cost_usd"]), body["request_id"]),
    )
    rows.execute("UPDATE sessions SET busy = 0 WHERE id = ?", (body["session_id"],))
    if state != "abandoned":
        rows.execute("UPDATE sessions SET turn = ? WHERE id = ?", (body["turn"], body["session_id"]))


def _cleared(event: RecordedEvent, body: dict[str, Any], rows: Rows) -> None:
    rows.execute("UPDATE sessions SET turn = ? WHERE id = ?", (body["at"], body["session_id"]))


def _deleted(event: RecordedEvent, body: dict[str, Any], rows: Rows) -> None:
    rows.execute("UPDATE sessions SET deleted = 1 WHERE id = ?", (body["session_id"],))


def _restated(event: RecordedEvent, body: dict[str, Any], rows: Rows) -> None:
    """Nothing new; its version counts."""


def _generated(event: RecordedEvent, body: dict[str, Any], rows: Rows) -> None:
    """Of any request: those that are no turn change nothing."""
    rows.execute(
        "UPDATE sessions_turns SET tokens_input = tokens_input + ?, tokens_output = tokens_output + ?"
        " WHERE request_id = ?",
        (body["tokens_input"], body["tokens_output"], body["request_id"]),
    )


FOLDS: Mapping[str, Callable[[RecordedEvent, dict[str, Any], Rows], None]] = {
    "session_created": _created,
    "session_forked": _forked,
    "session_turn_started": _turn_started,
    "session_turn_completed": _turn_ended,
    "session_turn_abandoned": _turn_ended,
    "session_compacted": _turn_ended,
    "session_cleared": _cleared,
    "session_deleted": _deleted,
    "session_restated": _restated,
    "generation_completed": _generated,
    "generation_failed": _generated,
}


class Sessions:
    """Folds the sessions' events into their rows, and those of generations into their turns'."""

    name: ClassVar[str] = "sessions"
    version: ClassVar[int] = 1
    handles: ClassVar[frozenset[str]] = frozenset(FOLDS)

    def create(self, rows: Rows) -> None:
        """Make the tables, if they are not there."""
        for statement in CREATE:
            rows.execute(statement)

    def truncate(self, rows: Rows) -> None:
        """Drop them."""
        rows.execute("DROP TABLE IF EXISTS sessions_turns")
        rows.execute("DROP TABLE IF EXISTS sessions")

    def apply(self, events: Sequence[RecordedEvent], rows: Rows) -> None:
        """Fold the next events."""
        for event in events:
            body = newest(event)
            FOLDS[event.type](event, body, rows)
            if "session_id" in body:
                rows.execute(_MOVED, (event.version, event.at, body["session_id"]))


_COLUMNS = "id, key, model, title, metadata, parent_id, at, version, turn, busy, updated_at"
_SUMS = f"""count(t.turn) FILTER (WHERE t.state = 'completed'), coalesce(sum(t.tokens_input), 0),
    coalesce(sum(t.tokens_output), 0), {summed("t.cost")},
    count(t.turn) FILTER (WHERE t.state != 'running' AND t.cost IS NULL)"""
_SHOWN = f"""
    SELECT {", ".join(f"s.{name}" for name in _COLUMNS.split(", "))}, {_SUMS}
    FROM (SELECT * FROM sessions WHERE NOT deleted AND %s) s LEFT JOIN sessions_turns t ON t.session_id = s.id
    GROUP BY s.position ORDER BY s.position DESC"""  # noqa: S608  constants of this file
_ONE = _SHOWN % "id = ?"
_PAGE = _SHOWN % "position < ? ORDER BY position DESC LIMIT ?"
_TURNS = """
    SELECT turn, before, request_id, purpose, state, reason, carried, dropped, started_at, ended_at, tokens_input,
           tokens_output, cost
    FROM sessions_turns WHERE session_id = ? AND turn > ? ORDER BY turn, started_at LIMIT ?"""
_TURN_NAMES = (
    "turn", "before", "request_id", "purpose", "state", "reason", "carried", "dropped", "started_at", "ended_at",
    "tokens_input", "tokens_output",
)  # fmt: skip


def one_session(rows: sqlite3.Connection, session_id: str) -> dict[str, Any] | None:
    """A session as JSON values (`cost_usd` as `Usd`), None if there is none."""
    found = rows.execute(_ONE, (session_id,)).fetchone()
    return None if found is None else _shown(found)


def list_sessions(rows: sqlite3.Connection, limit: int = 1000, after: str | None = None) -> dict[str, Any]:
    """`{"data": […], "position": N}`, newest first; `after` is the id of the last one of the page before.

    Raises `KeyError` where there is no session `after`.
    """
    return newest_first(rows, Sessions.name, _PAGE, _shown, limit, after)


def list_turns(rows: sqlite3.Connection, session_id: str, limit: int = 1000, after: int = 0) -> dict[str, Any]:
    """`{"data": […], "position": N}`: a session's own turns by their numbers, those behind `after`."""
    with db.snapshot(rows):
        data = [_turn_shown(row) for row in rows.execute(_TURNS, (session_id, after, limit))]
        return {"data": data, "position": checkpoint.position(rows, Sessions.name)}


def _shown(row: tuple[Any, ...]) -> dict[str, Any]:
    *columns, turns, tokens_input, tokens_output, cost_high, cost_low, unpriced = row
    shown: dict[str, Any] = dict(zip(_COLUMNS.split(", "), columns, strict=True))
    parent, at = shown.pop("parent_id"), shown.pop("at")
    shown["forked_from"] = None if parent is None else {"id": parent, "at": at}
    shown["metadata"] = None if shown["metadata"] is None else json.loads(shown["metadata"])
    shown["busy"], shown["updated_at"] = bool(shown["busy"]), iso(shown["updated_at"])
    sums = {"turns": turns, "tokens_input": tokens_input, "tokens_output": tokens_output}
    return {**shown, **sums, "cost_usd": amount(cost_high, cost_low), "turns_unpriced": unpriced}


def _turn_shown(row: tuple[Any, ...]) -> dict[str, Any]:
    shown: dict[str, Any] = dict(zip(_TURN_NAMES, row[:-1], strict=True))
    for name in ("started_at", "ended_at"):
        shown[name] = None if shown[name] is None else iso(shown[name])
    shown["cost_usd"] = None if row[-1] is None else Usd(row[-1])
    return shown
