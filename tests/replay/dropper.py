"""Drops all of an archive and kills itself on the way: `python -m tests.replay.dropper DIRECTORY STEP`.

Killed at its STEP: `fold` (the snapshot begun with the one before), `taken` (it lies in the archive), `commit` (all but
committed), `delete` (committed, no file deleted), `tidy` (segments deleted, the snapshot before not), or never."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

from eventstore.archiving import Archiving
from eventstore.batch import Besides, Waiting
from eventstore.envelope import Recorded
from eventstore.reader import Reader
from eventstore.sqlite import SQLiteLog
from eventstore.writer import Writer
from gateway.archivist import Archivist
from projections import snapshotting

STEPS = ("fold", "taken", "commit", "delete", "tidy")
ALL = 1 << 40


def die_at(step: str) -> None:
    if sys.argv[2] == step:
        os.kill(os.getpid(), signal.SIGKILL)


class DyingReader(Reader):
    """Dies when the first rows to be folded are asked for."""

    def read(self, after: int, limit: int, *, until: int | None = None, frames: bool = True) -> list[Recorded]:
        if limit == snapshotting.BATCH:
            die_at("fold")
        return super().read(after, limit, until=until, frames=frames)


class DyingArchiving(Archiving):
    def _tidy(self) -> None:
        die_at("delete")
        super()._tidy()


class DyingArchivist(Archivist):
    archiving = DyingArchiving

    def _taken(self, through: int) -> tuple[str, str]:
        with DyingReader(self._data_dir) as reader:
            found = snapshotting.take(self._data_dir, reader, through)
        die_at("taken")
        return found

    def _tidy(self) -> None:
        die_at("tidy")
        super()._tidy()


class DyingWriter(Writer):
    def _commit_alone(self, append: Waiting, besides: Besides) -> None:
        def then_die(connection: sqlite3.Connection, position: int) -> None:
            besides(connection, position)
            die_at("commit")

        super()._commit_alone(append, then_die)


class DyingLog(SQLiteLog):
    writer = DyingWriter


async def drop(data_dir: Path) -> Any:
    log = await DyingLog.open(data_dir)
    try:
        return await DyingArchivist(log, data_dir, log.previous).asked("drop", ALL)
    finally:
        await log.close()


if __name__ == "__main__":
    asyncio.run(drop(Path(sys.argv[1])))
