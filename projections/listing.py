"""The rows of a table as clients page through them, the newest first."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from projections import checkpoint, db

NEWEST = 2**63 - 1
"""Behind every position."""


def newest_first(
    rows: sqlite3.Connection,
    projection: str,
    page: str,
    shown: Callable[[tuple[Any, ...]], dict[str, Any]],
    limit: int,
    after: str | None,
    like: Sequence[str] = (),
) -> dict[str, Any]:
    """`{"data": […], "position": N}`, each row as `shown` has it; `after` is the id of the last one of the page before.

    The projection's table has its name, an `id` and a `position`; `page` is a query that takes the position before
    which the rows shall be, the values that they shall have, and how many. Raises `KeyError` where there is no row
    `after`.
    """
    with db.snapshot(rows):
        before = NEWEST if after is None else _position_of(rows, projection, after)
        data = [shown(row) for row in rows.execute(page, (before, *like, limit))]
        return {"data": data, "position": checkpoint.position(rows, projection)}


def _position_of(rows: sqlite3.Connection, table: str, name: str) -> int:
    found = rows.execute(f"SELECT position FROM {table} WHERE id = ?", (name,)).fetchone()  # noqa: S608  a projection's name
    if found is None:
        raise KeyError(name)
    position: int = found[0]
    return position
