"""Archives a log and kills itself on the way: `python -m tests.eventstore.archiver DIRECTORY STEP`.

Killed before its STEP: `write`, `prove`, `seal`, `commit` (all rows deleted, and not committed), `shrink`, or never."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from eventstore.archive import write_segment
from eventstore.archived import file_of
from eventstore.archiving import Archiving, Written
from eventstore.batch import Besides, Waiting
from eventstore.envelope import NewEvent, RecordedEvent
from eventstore.reader import Reader
from eventstore.sqlite import SQLiteLog
from eventstore.writer import Writer

STEPS = ("write", "prove", "seal", "commit", "shrink")


def leaves_open(event: RecordedEvent) -> bool:
    return event.stream.startswith("request-") and event.type != "run_closed"


def sealed(written: Written) -> NewEvent:
    return NewEvent("segment_sealed", 1, b'{"through":%d}' % written.through)


def dropped(names: list[str], through: int) -> NewEvent:
    return NewEvent("segments_dropped", 1, b'{"through":%d}' % through)


class Small(Archiving):
    """Segments of few rows."""

    segment_rows = 100


class Careless(Small):
    """The bug: the rows go first, and the file comes after."""

    def _write(self, first: int, through: int) -> Written:
        self._span = first, through
        return Written("", "00" * 32, first, through, 0, 0, "", 0)

    def _prove(self, written: Written) -> None:
        with Reader(self._data_dir) as reader:
            self._rows = list(reader.rows(written.first - 1, until=written.through))

    async def _seal(self, written: Written) -> None:
        await super()._seal(written)
        die_at("seal")
        write_segment(file_of(self._data_dir, self._span), self._rows)


def die_at(step: str) -> None:
    if sys.argv[2] == step:
        os.kill(os.getpid(), signal.SIGKILL)


class Dying(Small):
    def _write(self, first: int, through: int) -> Written:
        die_at("write")
        return super()._write(first, through)

    def _prove(self, written: Written) -> None:
        die_at("prove")
        super()._prove(written)

    async def _seal(self, written: Written) -> None:
        die_at("seal")
        await super()._seal(written)


class DyingWriter(Writer):
    def _commit_alone(self, append: Waiting, besides: Besides) -> None:
        def then_die(connection: Any, position: int) -> None:
            besides(connection, position)
            die_at("commit" if append.writes else "shrink")

        super()._commit_alone(append, then_die)


class DyingLog(SQLiteLog):
    writer = DyingWriter


async def archive(data_dir: Path, kind: type[Archiving]) -> None:
    log = await DyingLog.open(data_dir)
    await kind(log, data_dir, leaves_open, sealed, dropped).archive(1 << 62)
    await log.close()


if __name__ == "__main__":
    asyncio.run(archive(Path(sys.argv[1]), Careless if "careless" in sys.argv else Dying))
