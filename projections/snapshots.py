"""What is left of history that was dropped: every projection's tables, as they were made of all of it, in one file.

    take      before a drop, see `snapshotting.py`
    drop      its event names the file and the sha256 of it (`Source.snapshot`); only now it counts
    restore   the beginning of every rebuild from then on, that for the next snapshot too

The file lies in the archive, for it cannot be made again. It is a database like `projections.db`, checkpoints included,
without what file projections have written.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import file_digest
from pathlib import Path

from eventstore.errors import LogCorrupt
from projections import checkpoint as checkpoints
from projections.projection import Rows, Source, TableProjection

logger = logging.getLogger(__name__)

_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND (name = ?1 OR name GLOB ?1 || '_*')"


def restore(rows: Rows, log: Source, projection: TableProjection) -> None:
    """Put a projection, just begun with empty tables, behind what was dropped, with the rows that were made of it. Does
    nothing where nothing was dropped, or where the snapshot has it in another version only: that is logged.

    Raises `LogCorrupt` where the snapshot is not as it was written, `sqlite3.Error`."""
    found = log.snapshot()
    if found is None:
        return
    with _opened(*found) as kept:
        known = checkpoints.load(kept).get(projection.name)
        if known is None or known.version != projection.version:
            logger.warning("%s: %s does not hold its version %d", projection.name, found[0].name, projection.version)
            return
        for (table,) in kept.execute(_TABLES, (projection.name,)).fetchall():
            _copy(kept, rows, table)
        checkpoints.put(rows, known)


def damage(path: Path, digest: str) -> str | None:
    """What is wrong with a snapshot, whose sha256 should be `digest` (hex); every byte is read."""
    try:
        with path.open("rb") as file:
            whole = file_digest(file, "sha256").hexdigest() == digest
    except OSError as error:
        return f"the snapshot of what was dropped cannot be read: {error}"
    return None if whole else f"{path.name} is not the snapshot that was taken"


@contextmanager
def _opened(path: Path, digest: str) -> Iterator[sqlite3.Connection]:
    if what := damage(path, digest):
        raise LogCorrupt(0, what)
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as kept:
        yield kept


def _copy(kept: sqlite3.Connection, rows: Rows, table: str) -> None:
    found = kept.execute(f"SELECT * FROM {table}")  # noqa: S608  a name from the schema
    places = ", ".join("?" * len(found.description))
    rows.executemany(f"INSERT INTO {table} VALUES ({places})", found)  # noqa: S608  the same
