"""What was used and what it cost: the cost report.

Every ended upstream attempt counts, failed ones with what they had used; a request counts once, with its first one.
Attempts are kept singly and added up by hour, so a report over years reads hours, and its two ends are still exact.
Money is whole 1e-12 USD, as booked in the event, under the price of that day.

Whose a request was, and how it was tagged, its row in `requests` says: a report by that reads each attempt.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, get_args

from eventstore.catalogue.request import TERMINAL
from eventstore.envelope import RecordedEvent
from projections import checkpoint, db
from projections.events import amount, money, newest, summed
from projections.projection import Rows
from projections.requests import Requests

GroupBy = Literal["model", "provider", "key", "session", "day", "subject", "tag"]
HOUR = 3_600_000_000
"""Microseconds."""

CREATE = (
    """
    CREATE TABLE IF NOT EXISTS usage_callers (          -- of requests that have not ended
        request_id  TEXT PRIMARY KEY,
        key         TEXT NOT NULL,
        session_id  TEXT
    ) WITHOUT ROWID""",
    """
    CREATE TABLE IF NOT EXISTS usage_attempts (
        position             INTEGER PRIMARY KEY,
        request_id           TEXT NOT NULL,
        at                   INTEGER NOT NULL,          -- microseconds since 1970
        provider             TEXT NOT NULL,
        model                TEXT NOT NULL,
        key                  TEXT NOT NULL,
        session_id           TEXT NOT NULL,             -- '' where there is none
        requests             INTEGER NOT NULL,          -- 1 for a request's first attempt
        requests_unpriced    INTEGER NOT NULL,          -- 1 for a request's first attempt without a price
        priced               INTEGER NOT NULL,          -- 1 where something was used and its cost is known
        tokens_input         INTEGER NOT NULL,
        tokens_input_cached  INTEGER NOT NULL,
        tokens_output        INTEGER NOT NULL,
        cost                 INTEGER NOT NULL           -- 1e-12 USD, 0 where it is not known
    )""",
    "CREATE INDEX IF NOT EXISTS usage_attempts_request ON usage_attempts (request_id)",
    "CREATE INDEX IF NOT EXISTS usage_attempts_at ON usage_attempts (at)",
    """
    CREATE TABLE IF NOT EXISTS usage_hours (
        at                   INTEGER NOT NULL,          -- of the hour's beginning
        provider             TEXT NOT NULL,
        model                TEXT NOT NULL,
        key                  TEXT NOT NULL,
        session_id           TEXT NOT NULL,
        attempts             INTEGER NOT NULL,
        requests             INTEGER NOT NULL,
        requests_unpriced    INTEGER NOT NULL,
        priced               INTEGER NOT NULL,
        tokens_input         INTEGER NOT NULL,
        tokens_input_cached  INTEGER NOT NULL,
        tokens_output        INTEGER NOT NULL,
        cost                 INTEGER NOT NULL,
        PRIMARY KEY (at, provider, model, key, session_id)
    ) WITHOUT ROWID""",
)

_ATTEMPT = """
    INSERT INTO usage_attempts VALUES (:position, :request_id, :at, :provider, :model, :key, :session_id,
        NOT EXISTS (SELECT 1 FROM usage_attempts WHERE request_id = :request_id),
        :unpriced AND NOT EXISTS (
            SELECT 1 FROM usage_attempts WHERE request_id = :request_id AND requests_unpriced = 1),
        :priced, :tokens_input, :tokens_input_cached, :tokens_output, :cost)"""
_ADD_HOURS = f"""
    INSERT INTO usage_hours
    SELECT at - at % {HOUR}, provider, model, key, session_id, count(*), sum(requests), sum(requests_unpriced),
           sum(priced), sum(tokens_input), sum(tokens_input_cached), sum(tokens_output), sum(cost)
    FROM usage_attempts WHERE position BETWEEN ? AND ? GROUP BY 1, 2, 3, 4, 5
    ON CONFLICT DO UPDATE SET
        attempts = attempts + excluded.attempts,
        requests = requests + excluded.requests,
        requests_unpriced = requests_unpriced + excluded.requests_unpriced,
        priced = priced + excluded.priced,
        tokens_input = tokens_input + excluded.tokens_input,
        tokens_input_cached = tokens_input_cached + excluded.tokens_input_cached,
        tokens_output = tokens_output + excluded.tokens_output,
        cost = cost + excluded.cost"""  # noqa: S608  constants of this file
_ENDS = frozenset({"generation_completed", "generation_failed"})


class UsageProjection:
    """Folds ended attempts into what was used, by whom."""

    name: ClassVar[str] = "usage"
    version: ClassVar[int] = 1
    handles: ClassVar[frozenset[str]] = _ENDS | TERMINAL | {"request_received"}

    def create(self, rows: Rows) -> None:
        """Make the tables, if they are not there."""
        for statement in CREATE:
            rows.execute(statement)

    def truncate(self, rows: Rows) -> None:
        """Drop them."""
        for table in ("usage_callers", "usage_attempts", "usage_hours"):
            rows.execute(f"DROP TABLE IF EXISTS {table}")

    def apply(self, events: Sequence[RecordedEvent], rows: Rows) -> None:
        """Fold the next events."""
        callers = _Callers(rows)
        attempts = []
        for event in events:
            body = newest(event)
            if event.type in _ENDS:
                attempts.append(_attempt(event, body, *callers.of(body["request_id"])))
            elif event.type == "request_received":
                callers.came(body["request_id"], body["key"], body.get("session_id") or "")
            else:
                callers.left(body["request_id"])
        callers.keep()
        if attempts:
            rows.executemany(_ATTEMPT, attempts)
            rows.execute(_ADD_HOURS, (attempts[0]["position"], attempts[-1]["position"]))


def _attempt(event: RecordedEvent, body: dict[str, Any], key: str, session_id: str) -> dict[str, Any]:
    """A refused attempt that used nothing costs nothing, whatever its model's price is."""
    cost = money(body["cost_usd"])
    used = event.type == "generation_completed" or body["tokens_input"] or body["tokens_output"]
    return {
        "position": event.position,
        "request_id": body["request_id"],
        "at": event.at,
        "provider": body["provider"],
        "model": body["model"],
        "key": key,
        "session_id": session_id,
        "priced": bool(cost is not None and used),
        "unpriced": bool(cost is None and used),
        "tokens_input": body["tokens_input"],
        "tokens_input_cached": body.get("tokens_input_cached", 0),
        "tokens_output": body["tokens_output"],
        "cost": cost or 0,
    }


class _Callers:
    """Who sent the requests of a batch. Only those that are open at its end reach the table."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._new: dict[str, tuple[str, str]] = {}
        self._gone: list[tuple[str]] = []

    def came(self, request_id: str, key: str, session_id: str) -> None:
        self._new[request_id] = (key, session_id)

    def of(self, request_id: str) -> tuple[str, str]:
        """(key, session). Raises `LookupError` for a request that nobody sent."""
        caller = self._new.get(request_id)
        if caller is not None:
            return caller
        found = self._rows.execute(
            "SELECT key, session_id FROM usage_callers WHERE request_id = ?", (request_id,)
        ).fetchone()
        if found is None:
            raise LookupError(f"{request_id} was not received")
        return found[0], found[1]

    def left(self, request_id: str) -> None:
        if self._new.pop(request_id, None) is None:
            self._gone.append((request_id,))

    def keep(self) -> None:
        if self._gone:
            self._rows.executemany("DELETE FROM usage_callers WHERE request_id = ?", self._gone)
        if self._new:
            self._rows.executemany(
                "INSERT INTO usage_callers VALUES (?, ?, ?)",
                [(request_id, *caller) for request_id, caller in self._new.items()],
            )


_SUMS = (
    "sum(attempts), sum(requests), sum(requests_unpriced), sum(priced),"
    f" sum(tokens_input), sum(tokens_input_cached), sum(tokens_output), {summed('cost')}"
)
_WITHIN = """
    SELECT at, provider, model, key, session_id, attempts, requests, requests_unpriced, priced,
           tokens_input, tokens_input_cached, tokens_output, cost
    FROM usage_hours WHERE at >= :first_hour AND at < :last_hour
    UNION ALL
    SELECT at, provider, model, key, session_id, 1, requests, requests_unpriced, priced,
           tokens_input, tokens_input_cached, tokens_output, cost
    FROM usage_attempts WHERE at >= :since AND at < :head_end
    UNION ALL
    SELECT at, provider, model, key, session_id, 1, requests, requests_unpriced, priced,
           tokens_input, tokens_input_cached, tokens_output, cost
    FROM usage_attempts WHERE at >= :tail_start AND at < :until"""
_SINGLY = """
    SELECT used.at, 1 AS attempts, used.requests, used.requests_unpriced, used.priced,
           used.tokens_input, used.tokens_input_cached, used.tokens_output, used.cost,
           coalesce(requests.subject, '') AS subject,
           coalesce((SELECT said.value FROM json_each(requests.tags) AS said WHERE said.key = :tag), '') AS tag
    FROM usage_attempts AS used LEFT JOIN requests ON requests.id = used.request_id
    WHERE used.at >= :since AND used.at < :until"""
_GROUPS: dict[GroupBy, tuple[str, tuple[str, ...]]] = {
    "model": ("provider || '/' || model", ("provider", "model")),
    "provider": ("provider", ("provider",)),
    "key": ("key", ("key",)),
    "session": ("session_id", ("session_id",)),
    "day": ("date(at / 1000000, 'unixepoch')", ("day",)),
    "subject": ("subject", ("subject",)),
    "tag": ("tag", ("tag",)),
}
"""Group -> the expression that it is sorted and paged by, and the names of its columns."""
SINGLY = frozenset({"subject", "tag"})
"""Groups of which the hours know nothing: `requests` has what they need."""
_NONE_WHERE_EMPTY = ("session_id", "subject", "tag")
_COLUMN = {"day": "date(at / 1000000, 'unixepoch')"}
_FIGURES = (
    "attempts", "requests", "requests_unpriced", "priced",
    "tokens_input", "tokens_input_cached", "tokens_output", "cost_high", "cost_low",
)  # fmt: skip
_FOREVER = 2**62 - 2**62 % HOUR


def usage_report(
    rows: sqlite3.Connection,
    group_by: GroupBy = "model",
    since: int | None = None,
    until: int | None = None,
    limit: int = 1000,
    after: str | None = None,
    tag: str | None = None,
) -> dict[str, Any]:
    """`{"data": [one object a group], "total": {…}, "position": N}`, sorted by group.

    `since` (inclusive) and `until` (exclusive) are microseconds since 1970 UTC, compared with the time at which each
    attempt ended. A group has its own columns, then `requests`, `attempts`, `tokens_input` (cached included),
    `tokens_input_cached`, `tokens_output`, `cost_usd` (`Usd`; None where something was used and none of it has a price,
    else the sum of what has) and `requests_unpriced`, the requests that this sum leaves out in whole or in part.
    `total` is over all groups, not the page's: `limit` groups behind the group `after` (`provider/model` for a model,
    empty for what has no session or tag). The groups by `tag` are the values that the requests' tags have under that
    name. Raises `ValueError` for an unknown `group_by`.
    """
    if group_by not in get_args(GroupBy):
        raise ValueError(f"group_by must be one of {', '.join(get_args(GroupBy))}")
    label, columns = _GROUPS[group_by]
    listed = ", ".join(_COLUMN.get(column, column) for column in columns)
    values = {**_span(since, until), "after": after, "limit": limit, "tag": tag}
    within = _SINGLY if group_by in SINGLY else _WITHIN
    groups = f"""
        SELECT {listed}, {_SUMS} FROM ({within}) WHERE :after IS NULL OR {label} > :after
        GROUP BY {label} ORDER BY {label} LIMIT :limit"""  # noqa: S608  constants of this file
    with db.snapshot(rows):
        data = [_shown(columns, row) for row in rows.execute(groups, values)]
        total = rows.execute(f"SELECT {_SUMS} FROM ({within})", values).fetchone()  # noqa: S608  likewise
        position = min(checkpoint.position(rows, name) for name in read_by(group_by))
    return {"data": data, "total": _shown((), total), "position": position}


def read_by(group_by: GroupBy) -> tuple[str, ...]:
    """The projections that a report reads."""
    return (UsageProjection.name, Requests.name) if group_by in SINGLY else (UsageProjection.name,)


def sessions_since(rows: sqlite3.Connection, since: int) -> int:
    """How many sessions had an attempt that ended at or after a time (microseconds since 1970 UTC)."""
    sql = "SELECT count(DISTINCT session_id) FROM usage_attempts WHERE at >= ? AND session_id <> ''"
    return int(rows.execute(sql, (since,)).fetchone()[0])


def _span(since: int | None, until: int | None) -> dict[str, int]:
    """Whole hours, and what of the hours at both ends lies inside; within one hour the attempts alone."""
    since = 0 if since is None else max(since, 0)
    until = _FOREVER if until is None else min(until, _FOREVER)
    first_hour = -(-since // HOUR) * HOUR
    last_hour = until // HOUR * HOUR
    if first_hour > last_hour:
        return {
            "since": since, "head_end": until, "first_hour": 0, "last_hour": 0, "tail_start": until, "until": until,
        }  # fmt: skip
    return {
        "since": since, "head_end": first_hour, "first_hour": first_hour, "last_hour": last_hour,
        "tail_start": last_hour, "until": until,
    }  # fmt: skip


def _shown(columns: Sequence[str], row: tuple[Any, ...]) -> dict[str, Any]:
    shown: dict[str, Any] = dict(zip(columns, row, strict=False))
    figures = {name: value or 0 for name, value in zip(_FIGURES, row[len(columns) :], strict=True)}
    for name in shown.keys() & _NONE_WHERE_EMPTY:
        shown[name] = shown[name] or None
    unknown = figures["requests_unpriced"] and not figures["priced"]
    return shown | {
        "requests": figures["requests"],
        "attempts": figures["attempts"],
        "tokens_input": figures["tokens_input"],
        "tokens_input_cached": figures["tokens_input_cached"],
        "tokens_output": figures["tokens_output"],
        "cost_usd": None if unknown else amount(figures["cost_high"], figures["cost_low"]),
        "requests_unpriced": figures["requests_unpriced"],
    }
