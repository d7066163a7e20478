"""Taking the snapshot that a drop leaves in place of history. Each step may be the last before a crash.

    fold, as a rebuild does, up to the last position to be dropped, in a directory aside  ->  make one file of it
    ->  sync it and rename it into the archive  ->  (the drop's event names it)  ->  delete the one before

It is made of the log, not copied from `projections.db`: what that holds wrongly would be wrong for ever.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from hashlib import file_digest
from pathlib import Path

from eventstore.archive import DIRECTORY
from eventstore.envelope import Recorded, RecordedEvent
from eventstore.syncing import sync_names
from projections import db
from projections.durable import sync
from projections.engine import Engine
from projections.projection import Projection, Source, is_table_projection
from projections.registry import REGISTRY

BATCH = 2_000
"""Ledger events in one transaction."""
SUFFIX = ".snapshot"
_ASIDE = f"taken{SUFFIX}.partial"


class NotTaken(Exception):
    """A projection could not fold what is to be dropped; the message names the event."""


def take(data_dir: Path, log: Source, through: int, projections: Sequence[Projection] = REGISTRY) -> tuple[str, str]:
    """Keep what tables hold at a position, durably; the file's name in the archive, and its sha256 in hex.

    Raises `NotTaken`, `LogError` (what is to be folded, or the snapshot before, is damaged), `OSError`,
    `sqlite3.Error`. Until then there is at most a directory aside, which the next attempt replaces."""
    archive = data_dir / DIRECTORY
    aside, path = archive / _ASIDE, archive / f"{through:015d}{SUFFIX}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(mode=0o700)
    _fold(aside, _Until(log, through), [projection for projection in projections if is_table_projection(projection)])
    made = aside / db.NAME
    _settle(made)
    with made.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
    made.replace(path)
    sync_names(archive)
    shutil.rmtree(aside)
    return path.name, digest


def tidy(data_dir: Path, log: Source) -> None:
    """Delete the snapshots that later ones have replaced, and what an attempt left. Raises `OSError`."""
    archive, current = data_dir / DIRECTORY, log.snapshot()
    shutil.rmtree(archive / _ASIDE, ignore_errors=True)
    for path in archive.glob(f"*{SUFFIX}"):
        if current is not None and path.name < current[0].name:
            path.unlink()


def _fold(aside: Path, log: Source, projections: Sequence[Projection]) -> None:
    engine = Engine(aside, log, projections)
    try:
        while engine.step(BATCH):
            pass
        for name, state in engine.status().items():
            if halted := state["halted"]:
                raise NotTaken(f"{name} cannot fold position {halted['position']}: {halted['error']}")
    finally:
        engine.close()


def _settle(path: Path) -> None:
    """All of it in the one file, which says no more that there is a log beside it, and on the disk."""
    with closing(sqlite3.connect(path, isolation_level=None)) as rows:
        rows.execute("PRAGMA journal_mode=DELETE")
    sync(path)


class _Until:
    """A log that ends at a position."""

    def __init__(self, log: Source, position: int) -> None:
        self._log, self._position = log, position

    def head(self) -> int:
        return self._position

    def read(self, after: int, limit: int, *, until: int | None = None, frames: bool = True) -> Sequence[Recorded]:
        until = self._position if until is None else min(until, self._position)
        return self._log.read(after, limit, until=until, frames=frames)

    def read_stream(self, stream: str, after: int = 0) -> Sequence[RecordedEvent]:
        found = self._log.read_stream(stream, after)
        return [event for event in found if event.position <= self._position]

    def read_blob(self, digest: bytes) -> bytes:
        return self._log.read_blob(digest)

    def dropped(self) -> int:
        return self._log.dropped()

    def snapshot(self) -> tuple[Path, str] | None:
        return self._log.snapshot()
