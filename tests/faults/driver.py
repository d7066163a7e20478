"""A small process that drives the real log, for a disk that is made to fail under it. Says what it was promised:

open            the log is open
ack REQUEST     its append is acknowledged
refused REQUEST new work is refused: the disk is full
fatal ERROR     the log can write no more; the process ends with 74, as the server does

python -m tests.faults.driver DATA_DIR KIND APPENDS
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from eventstore.batch import Waiting
from eventstore.envelope import NEW_STREAM, NewEvent
from eventstore.errors import LogFull, LogUnavailable
from eventstore.frames import FrameRun
from eventstore.space import DiskSpace
from eventstore.sqlite import SQLiteLog
from eventstore.writer import Writer
from tests.eventstore.builders import happened, write

DISK_REFUSED = 74
RUNS = "runs"


class EagerWriter(Writer):
    """Moves its write-ahead log into the database often, so that faults hit that too."""

    commits_per_checkpoint = 15


class EagerSpace(DiskSpace):
    """Sees at once that there is room again."""

    look_s = 0.01


class Driven(SQLiteLog):
    """The real log, with less patience."""

    writer = EagerWriter
    space = EagerSpace


class Forgiving(EagerWriter):
    """The bug: whatever the disk said, the next batch may do."""

    def _handle(self, waiting: list[Waiting]) -> None:
        super()._handle(waiting)
        self._forgive()

    def _forgive(self) -> None:
        if self._failure is not None:
            self._connection.rollback()
            self._failure = None


class CarriesOn(Driven):
    """A log with that bug."""

    writer = Forgiving


class NoBallast(EagerSpace):
    """The bug: there is nothing to give up."""

    def _take(self) -> bool:
        return True


class Unprepared(Driven):
    """A log with that bug."""

    space = NoBallast


KINDS: dict[str, type[SQLiteLog]] = {kind.__name__: kind for kind in (Driven, CarriesOn, Unprepared)}


def say(*words: str) -> None:
    """A line, written at once."""
    os.write(1, (" ".join(words) + "\n").encode())


def streams_of(number: int) -> tuple[str, str]:
    """The streams that one append writes to, together."""
    return f"request-{number}", f"session-{number}"


async def drive(data_dir: Path, kind: type[SQLiteLog], appends: int) -> int:
    """Open, append, close; the exit code."""
    fatal: list[Exception] = []
    try:
        log = await kind.open(data_dir, on_fatal=fatal.append)
    except LogUnavailable as error:
        say("fatal", str(error))
        return DISK_REFUSED
    say("open")
    try:
        await append(log, appends)
    except LogUnavailable:
        return DISK_REFUSED
    finally:
        await log.close()
        for error in fatal:
            say("fatal", str(error))
    return DISK_REFUSED if fatal and kind is not CarriesOn else 0


async def append(log: SQLiteLog, appends: int) -> None:
    """So many appends, one after the other."""
    opened = await log.append(write(RUNS, NEW_STREAM, NewEvent("run_opened", 1, b"{}")))
    run = FrameRun(opened.last)
    for number in range(appends):
        while log.full:
            await asyncio.sleep(0.005)
        try:
            await one(log, run, number)
        except LogFull:
            say("refused", f"request-{number}")
        except LogUnavailable:
            if not isinstance(log, CarriesOn):
                raise


async def one(log: SQLiteLog, run: FrameRun, number: int) -> None:
    """An append over two streams, with a frame and a blob."""
    request, session = streams_of(number)
    await log.append(
        write(request, NEW_STREAM, happened(text="x" * (number * 997 % 9_000)), happened(last=True)),
        write(session, NEW_STREAM),
        frames=run.pack([b"data: %d\n\n" % number], offset_us=number)[0],
        blobs=[number.to_bytes(4) * 500],
        admit=True,
    )
    say("ack", request)


if __name__ == "__main__":
    sys.exit(asyncio.run(drive(Path(sys.argv[1]), KINDS[sys.argv[2]], int(sys.argv[3]))))
