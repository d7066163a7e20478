"""What a projection is: a name, a version, the event types it folds, and how. Two kinds: tables, and files.

A projection is disposable: truncated and fed the log again it gives the same rows or bytes, in whatever batches.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeGuard

from eventstore.envelope import Recorded, RecordedEvent

Rows = sqlite3.Connection
"""Where a table projection keeps its rows: a transaction of `projections.db`, committed with the checkpoint."""


class Source(Protocol):
    """The log as projections read it: `eventstore.reader.Reader`, synchronous and read-only."""

    def head(self) -> int:
        """The position of the last durable row, 0 for an empty log."""

    def read(self, after: int, limit: int, *, until: int | None = None, frames: bool = True) -> Sequence[Recorded]:
        """Rows with `after < position <= until`, in order, at most `limit`; without `frames` the ledger alone."""

    def read_stream(self, stream: str, after: int = 0) -> Sequence[RecordedEvent]:
        """The events of one stream with `version > after`, in order."""

    def read_blob(self, digest: bytes) -> bytes:
        """The blob with this sha256. Raises `KeyError` if there is none, `LogCorrupt` if it is damaged."""

    def dropped(self) -> int:
        """The position up to which history was dropped: what there is begins behind it."""

    def snapshot(self) -> tuple[Path, str] | None:
        """What was left of what was dropped (`snapshots.py`): a file, and its sha256 in hex."""


class TableProjection(Protocol):
    """A fold of the ledger into tables of `projections.db`. Its tables' names begin with its `name`."""

    name: ClassVar[str]
    version: ClassVar[int]
    handles: ClassVar[frozenset[str]]

    def create(self, rows: Rows) -> None:
        """Make the tables, if they are not there."""

    def apply(self, events: Sequence[RecordedEvent], rows: Rows) -> None:
        """Fold the next events, all of handled types, in order. Raises on one that it cannot fold, and halts there."""

    def truncate(self, rows: Rows) -> None:
        """Drop its tables."""


class FileProjection(Protocol):
    """A fold of the ledger into lines of files in the data directory. `patterns` are globs that match its files."""

    name: ClassVar[str]
    version: ClassVar[int]
    handles: ClassVar[frozenset[str]]
    patterns: ClassVar[tuple[str, ...]]

    def lines(
        self, events: Sequence[RecordedEvent], state: dict[str, Any], source: Source
    ) -> Sequence[tuple[str, bytes]]:
        """(file name, line without newline) for the next events, in order. `state` is small, JSON, kept with the
        checkpoint; `source` gives what an event only names. Raises on an event it cannot fold."""


Projection = TableProjection | FileProjection


def is_file_projection(projection: Projection) -> TypeGuard[FileProjection]:
    """Whether it folds into lines of files."""
    return hasattr(projection, "lines")


def is_table_projection(projection: Projection) -> TypeGuard[TableProjection]:
    """Whether it folds into tables."""
    return hasattr(projection, "apply")
