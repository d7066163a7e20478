"""How much of the log every projection holds for good: what may leave the log's archive, and what may not."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from eventstore.syncing import sync_names
from projections import checkpoint, db
from projections.projection import Projection
from projections.registry import REGISTRY


def durable_position(data_dir: Path, projections: Sequence[Projection] = REGISTRY) -> int:
    """The position of the last ledger event that every projection has folded, durably: files, their names and the
    database are synced here. 0 where one has not begun, or is of another version and so to be made anew.

    Raises `sqlite3.Error`, `OSError`."""
    path = data_dir / db.NAME
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as rows:
        known = checkpoint.load(rows)
        for (file,) in rows.execute("SELECT file FROM projection_files").fetchall():
            sync(data_dir / file)
        sync_names(data_dir)
        busy, *_ = rows.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
        if busy:
            raise sqlite3.OperationalError(f"{db.NAME} could not be synced: it is in use")
    found = [known.get(projection.name) for projection in projections]
    versions = [projection.version for projection in projections]
    return min(
        (
            at.event_position if at is not None and at.version == version else 0
            for at, version in zip(found, versions, strict=True)
        ),
        default=0,
    )


def sync(path: Path) -> None:
    """Have a file on the disk. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
