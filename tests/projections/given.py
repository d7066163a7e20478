"""`given(events).projects(rows)`: what a log looks like through its projections."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventstore.catalogue import Event
from projections import db
from projections.engine import Engine
from tests.projections.ledger import Ledger


class Given:
    """A log, folded into all projections in a folder of its own."""

    def __init__(self, log: Ledger) -> None:
        self._log = log

    @contextmanager
    def rows(self) -> Iterator[sqlite3.Connection]:
        """The projections' database, for a query."""
        with tempfile.TemporaryDirectory() as folder:
            engine = Engine(Path(folder), self._log)
            while engine.step():
                pass
            assert not [found for found in engine.status().values() if found["halted"]]
            engine.close()
            reader = db.Reader(Path(folder))
            yield reader.rows()
            reader.close()

    def projects(self, query: str, expected: list[tuple[object, ...]]) -> None:
        """The rows that a query finds."""
        with self.rows() as rows:
            assert rows.execute(query).fetchall() == expected


def given(*events: Event) -> Given:
    """A log of these events."""
    log = Ledger()
    log.add(*events)
    return Given(log)


def given_log(log: Ledger) -> Given:
    """A log that is there already."""
    return Given(log)
