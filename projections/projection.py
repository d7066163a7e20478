"""What a projection is: a name, a version, the event types it folds, and how. Two kinds: tables, and files.

A projection is disposable: truncated and fed the log again it gives the same rows or bytes, in whatever batches.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

from eventstore.envelope import RecordedEvent

Rows = sqlite3.Connection
"""Where a table projection keeps its rows: a transaction of `projections.db` that the engine commits with the checkpoint."""

ReadBlob = Callable[[bytes], bytes]
"""The blob with this sha256, for projections of content."""


class TableProjection(Protocol):
    """A fold of the ledger into tables of `projections.db`. Its tables' names begin with its `name`."""

    name: ClassVar[str]
    version: ClassVar[int]
    handles: ClassVar[frozenset[str]]

    def create(self, rows: Rows) -> None:
        """Make the tables, if they are not there."""

    def apply(self, events: Sequence[RecordedEvent], rows: Rows) -> None:
        """Fold the next events, all of handled types, in order. Raises on an event it cannot fold: that halts it there."""

    def truncate(self, rows: Rows) -> None:
        """Drop its tables."""


class FileProjection(Protocol):
    """A fold of the ledger into lines of files in the data directory."""

    name: ClassVar[str]
    version: ClassVar[int]
    handles: ClassVar[frozenset[str]]
    patterns: ClassVar[tuple[str, ...]]

    def lines(self, events: Sequence[RecordedEvent], state: dict[str, object]) -> list[tuple[str, bytes]]:
        """(file name, line without newline) for the next events, in order. `state` is small, JSON, kept with the checkpoint."""


Projection = TableProjection | FileProjection
