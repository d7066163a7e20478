"""What is done to an archive, as processes to be watched: `python -m tests.durability.lives DIRECTORY archive`, or
`… repair SOUND`, where SOUND is the directory as it was before the damage."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from eventstore.archiving import Archiving
from eventstore.envelope import RecordedEvent, RecordedFrames
from eventstore.ingest import PulledEvent
from eventstore.reader import Reader
from eventstore.repair import Copies
from eventstore.space import DiskSpace
from eventstore.sqlite import SQLiteLog
from gateway.archivist import Archivist
from projections.engine import Engine
from replay.repair import repaired

ALL = 1 << 40


class Weightless(DiskSpace):
    """Without ballast: what is tried here fills no disk."""

    ballast = 0


class Log(SQLiteLog):
    space = Weightless


class Small(Archiving):
    """Segments of few rows."""

    segment_rows = 24


class SmallArchivist(Archivist):
    archiving = Small


def fold(data_dir: Path) -> None:
    """Everything is made of the log as it is."""
    with Reader(data_dir) as reader:
        engine = Engine(data_dir, reader)
        while engine.step():
            pass
        engine.close()


async def archive(data_dir: Path) -> None:
    """Archived, folded, and dropped, the second time upon the first one's snapshot."""
    log = await Log.open(data_dir)
    try:
        archivist = SmallArchivist(log, data_dir, log.previous)
        await archivist.asked("archive", ALL)
        fold(data_dir)
        await archivist.asked("drop", 24)
        await archivist.asked("drop", ALL)
    finally:
        await log.close()


async def mend(data_dir: Path, sound: Path) -> None:
    """Damaged rows and files are made again from copies."""

    async def found(data_dir: Path, nats: str) -> Copies:
        return copies(sound)

    assert (await repaired(data_dir, "nowhere", found))["lost"] == []


def copies(sound: Path) -> Copies:
    """As JetStream has them."""
    with Reader(sound) as reader:
        rows = list(reader.rows())
    found, opened = Copies(), {row.position: (row.origin, row.oseq) for row in rows if isinstance(row, RecordedEvent)}
    for row in rows:
        if isinstance(row, RecordedFrames):
            bare = RecordedFrames(row.position, 0, 0, row.frame, row.count, row.offset_us, row.codec, row.bytes)
            found.rows.setdefault(opened[row.generation], {})[row.frame] = bare
        else:
            event = PulledEvent(row.origin, row.oseq, row.data, row.digest)
            found.events[row.origin, row.oseq] = row.position, event
    return found


if __name__ == "__main__":
    asyncio.run(archive(Path(sys.argv[1])) if sys.argv[2] == "archive" else mend(Path(sys.argv[1]), Path(sys.argv[3])))
