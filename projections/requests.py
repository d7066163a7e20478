"""What became of each request: one row each, from `received` to its one terminal state.

States: `received`, `running` (an upstream was called), then one of `completed`, `failed`, `cancelled`, `interrupted`,
`rejected`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal, get_args

from eventstore.catalogue.values import Usd
from eventstore.envelope import RecordedEvent
from projections.events import iso, money, newest
from projections.listing import newest_first
from projections.projection import Rows

CREATE = (
    """
    CREATE TABLE IF NOT EXISTS requests (
        position             INTEGER PRIMARY KEY,  -- of its first event: the order of lists
        id                   TEXT NOT NULL UNIQUE,
        state                TEXT NOT NULL,
        endpoint             TEXT NOT NULL,
        wire                 TEXT NOT NULL,
        stream               INTEGER NOT NULL,     -- whether the answer is streamed
        model_requested      TEXT,
        provider             TEXT,
        model                TEXT,
        key                  TEXT NOT NULL,
        subject              TEXT,
        session_id           TEXT,
        tags                 TEXT,                 -- JSON
        retention            TEXT,
        started_at           INTEGER NOT NULL,     -- microseconds since 1970, as are all times
        ended_at             INTEGER,
        status               INTEGER,
        attempts             INTEGER NOT NULL DEFAULT 0,
        tokens_input         INTEGER NOT NULL DEFAULT 0,
        tokens_input_cached  INTEGER NOT NULL DEFAULT 0,
        tokens_output        INTEGER NOT NULL DEFAULT 0,
        cost                 INTEGER,              -- 1e-12 USD
        finish_reason        TEXT,
        duration_ms          REAL,
        overhead_ms          REAL,
        ttft_ms              REAL,
        error                TEXT,                 -- JSON: message, type, param, code
        fault_domain         TEXT,
        reason               TEXT,
        last_position        INTEGER NOT NULL
    )""",
    "CREATE INDEX IF NOT EXISTS requests_open ON requests (started_at) WHERE ended_at IS NULL",
)

_RECEIVED = """
    INSERT INTO requests (position, last_position, id, state, endpoint, wire, stream, model_requested, key, subject,
                          session_id, tags, retention, started_at)
    VALUES (?1, ?1, ?2, 'received', ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"""
_ROUTED = "UPDATE requests SET last_position = ?, provider = ?, model = ? WHERE id = ?"
_STARTED = (
    "UPDATE requests SET last_position = ?, state = 'running', provider = ?, model = ?, attempts = ? WHERE id = ?"
)
_GENERATED = """
    UPDATE requests SET last_position = ?, finish_reason = ?, tokens_input = tokens_input + ?,
        tokens_input_cached = tokens_input_cached + ?, tokens_output = tokens_output + ?
    WHERE id = ?"""
_ENDED = """
    UPDATE requests SET last_position = ?, state = ?, ended_at = ?, status = ?, attempts = ?, cost = ?, duration_ms = ?,
        overhead_ms = ?, ttft_ms = ?, error = ?, fault_domain = ?, reason = ?,
        provider = coalesce(?, provider), model = coalesce(?, model)
    WHERE id = ?"""
_REJECTED = """
    INSERT INTO requests (position, last_position, id, state, endpoint, wire, stream, model_requested, key, started_at,
                          ended_at, status, error, fault_domain)
    VALUES (?1, ?1, ?2, 'rejected', ?3, ?4, ?5, ?6, ?7, ?8, ?8, ?9, ?10, ?11)
    ON CONFLICT (id) DO UPDATE SET last_position = excluded.last_position, state = 'rejected',
        ended_at = excluded.ended_at, status = excluded.status, error = excluded.error,
        fault_domain = excluded.fault_domain"""


def _received(event: RecordedEvent, body: dict[str, Any]) -> tuple[Any, ...]:
    return (
        event.position,
        body["request_id"],
        body["endpoint"],
        body["wire"],
        body["stream_answer"],
        body["model"],
        body["key"],
        body["subject"],
        body.get("session_id"),
        _json(body.get("tags")),
        body.get("retention"),
        event.at,
    )


def _routed(event: RecordedEvent, body: dict[str, Any]) -> tuple[Any, ...]:
    return event.position, body["provider"], body["model"], body["request_id"]


def _started(event: RecordedEvent, body: dict[str, Any]) -> tuple[Any, ...]:
    return event.position, body["provider"], body["model"], body["attempt"], body["request_id"]


def _generated(event: RecordedEvent, body: dict[str, Any]) -> tuple[Any, ...]:
    return (
        event.position,
        body.get("finish_reason"),
        body["tokens_input"],
        body.get("tokens_input_cached", 0),
        body["tokens_output"],
        body["request_id"],
    )


def _ended(event: RecordedEvent, body: dict[str, Any]) -> tuple[Any, ...]:
    return (
        event.position,
        event.type.removeprefix("request_"),
        event.at,
        body.get("status"),
        body["attempts"],
        money(body["cost_usd"]),
        body.get("duration_ms"),
        body.get("overhead_ms"),
        body.get("ttft_ms"),
        _json(body.get("error")),
        body.get("fault_domain"),
        body.get("reason"),
        body.get("provider"),
        body.get("model"),
        body["request_id"],
    )


def _rejected(event: RecordedEvent, body: dict[str, Any]) -> tuple[Any, ...]:
    return (
        event.position,
        body["request_id"],
        body["endpoint"],
        body["wire"],
        body.get("stream_answer", False),
        body.get("model"),
        body["key"],
        event.at,
        body["status"],
        _json(body["error"]),
        body["fault_domain"],
    )


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


Fold = tuple[str, Callable[[RecordedEvent, dict[str, Any]], tuple[Any, ...]]]
_ROUTE: Fold = (_ROUTED, _routed)
_END: Fold = (_ENDED, _ended)
_GENERATION: Fold = (_GENERATED, _generated)
FOLDS: dict[str, Fold] = {
    "request_received": (_RECEIVED, _received),
    "route_selected": _ROUTE,
    "generation_started": (_STARTED, _started),
    "generation_completed": _GENERATION,
    "generation_failed": _GENERATION,
    "request_completed": _END,
    "request_failed": _END,
    "request_cancelled": _END,
    "request_interrupted": _END,
    "request_rejected": (_REJECTED, _rejected),
}
"""Type -> its statement and that statement's values, in the order of a request's life. A batch runs statement by
statement in this order, not event by event: each sets columns of its own, or the same ones later in that life."""


class Requests:
    """Folds a request's events into its row."""

    name: ClassVar[str] = "requests"
    version: ClassVar[int] = 1
    handles: ClassVar[frozenset[str]] = frozenset(FOLDS)

    def create(self, rows: Rows) -> None:
        """Make the table, if it is not there."""
        for statement in CREATE:
            rows.execute(statement)

    def truncate(self, rows: Rows) -> None:
        """Drop it."""
        rows.execute("DROP TABLE IF EXISTS requests")

    def apply(self, events: Sequence[RecordedEvent], rows: Rows) -> None:
        """Fold the next events."""
        values: dict[str, list[tuple[Any, ...]]] = {statement: [] for statement, _ in FOLDS.values()}
        for event in events:
            statement, fold = FOLDS[event.type]
            values[statement].append(fold(event, newest(event)))
        for statement, changes in values.items():
            if changes:
                rows.executemany(statement, changes)


@dataclass(frozen=True, slots=True)
class OpenRequests:
    """Requests without a terminal event: how many, and when the oldest came (microseconds since 1970)."""

    count: int
    oldest_at: int | None


_COLUMNS = (
    "id, state, endpoint, wire, stream, model_requested, provider, model, key, subject, session_id, tags, retention,"
    " started_at, ended_at, status, attempts, tokens_input, tokens_input_cached, tokens_output, cost, finish_reason,"
    " duration_ms, overhead_ms, ttft_ms, error, fault_domain, reason, position, last_position"
)
_ONE = f"SELECT {_COLUMNS} FROM requests WHERE id = ?"  # noqa: S608  constants of this file
State = Literal["received", "running", "completed", "failed", "cancelled", "interrupted", "rejected"]
Choice = Literal["state", "provider", "model", "key", "session_id"]
"""The columns by which a list can be of some requests only."""


def one_request(rows: sqlite3.Connection, request_id: str) -> dict[str, Any] | None:
    """A request's row as JSON values (times as text, `cost_usd` as `Usd`), or None if there is no such request."""
    found = rows.execute(_ONE, (request_id,)).fetchone()
    return None if found is None else _shown(found)


def list_requests(
    rows: sqlite3.Connection,
    limit: int = 1000,
    after: str | None = None,
    only: Mapping[Choice, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """`{"data": […], "position": N}`, newest first; `after` is the id of the last one of the page before. `only`: what
    the requests shall have in these columns; the rows of all that are newer are read for it.

    Raises `KeyError` where there is no request `after`, `ValueError` for another column.
    """
    if unknown := only.keys() - get_args(Choice):
        raise ValueError(f"requests are not listed by {', '.join(sorted(unknown))}")
    alike = "".join(f" AND {column} = ?" for column in only)
    page = f"SELECT {_COLUMNS} FROM requests WHERE position < ?{alike} ORDER BY position DESC LIMIT ?"  # noqa: S608  likewise
    return newest_first(rows, Requests.name, page, _shown, limit, after, list(only.values()))


def open_requests(rows: sqlite3.Connection) -> OpenRequests:
    """What has been accepted and not ended."""
    return OpenRequests(
        *rows.execute("SELECT count(*), min(started_at) FROM requests WHERE ended_at IS NULL").fetchone()
    )


def session_of(rows: sqlite3.Connection, request_id: str) -> str | None:
    """The session that a request belongs to, if any."""
    found = rows.execute("SELECT session_id FROM requests WHERE id = ?", (request_id,)).fetchone()
    return found[0] if found else None


def _shown(row: tuple[Any, ...]) -> dict[str, Any]:
    shown: dict[str, Any] = dict(zip(_COLUMNS.split(", "), row, strict=True))
    shown["stream"] = bool(shown["stream"])
    for name in ("tags", "error"):
        shown[name] = None if shown[name] is None else json.loads(shown[name])
    for name in ("started_at", "ended_at"):
        shown[name] = None if shown[name] is None else iso(shown[name])
    cost = shown.pop("cost")
    shown["cost_usd"] = None if cost is None else Usd(cost)
    return shown
