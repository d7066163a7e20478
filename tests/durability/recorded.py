"""`sqlite3.Connection`, as far as the log and the projections use it, over a database whose writes are recorded."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import apsw

from tests.durability.disk import RECORDED

_BEGINS = ("INSERT", "UPDATE", "DELETE", "REPLACE")
"""Statements before which Python's module begins a transaction, unless told not to."""


class _Result:
    """A statement that was run to its end: no cursor stays open, and with it no read transaction."""

    def __init__(self, rows: list[Any], connection: apsw.Connection) -> None:
        self._rows = iter(rows)
        self.rowcount, self.lastrowid = connection.changes(), connection.last_insert_rowid()

    def __iter__(self) -> Iterator[Any]:
        return self._rows

    def fetchone(self) -> Any:
        return next(self._rows, None)

    def fetchall(self) -> list[Any]:
        return list(self._rows)


class _Connection:
    def __init__(self, path: Path, isolation_level: str | None) -> None:
        self._apsw = apsw.Connection(str(path), vfs=RECORDED)
        self._begin = isolation_level and f"BEGIN {isolation_level}"

    @property
    def in_transaction(self) -> bool:
        return self._apsw.in_transaction

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> _Result:
        try:
            if self._begin and sql.lstrip().startswith(_BEGINS) and not self.in_transaction:
                self._apsw.execute(self._begin)
            return _Result(self._apsw.execute(sql, parameters).fetchall(), self._apsw)
        except apsw.ConstraintError as error:
            raise sqlite3.IntegrityError(str(error)) from error

    def executemany(self, sql: str, parameters: Sequence[Sequence[Any]]) -> None:
        for row in parameters:
            self.execute(sql, row)

    def executescript(self, sql: str) -> None:
        self.commit()
        self._apsw.execute(sql).fetchall()

    def commit(self) -> None:
        if self.in_transaction:
            self._apsw.execute("COMMIT")

    def rollback(self) -> None:
        if self.in_transaction:
            self._apsw.execute("ROLLBACK")

    def close(self) -> None:
        self._apsw.close()


def connect(path: Path, isolation_level: str | None = None) -> sqlite3.Connection:
    """Open a database through the recorder that is registered. `isolation_level` as for `sqlite3.connect`."""
    return cast(sqlite3.Connection, _Connection(path, isolation_level))
