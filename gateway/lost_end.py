"""Is the log shorter than it was? What was made from it, and lies beside it, may know of positions that it lacks."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from eventstore import rows
from eventstore.sqlite import SQLiteLog
from eventstore.wal import kept_beside
from gateway.exchange.recover import LowWater
from projections import checkpoint
from projections.db import NotReady, Reader

logger = logging.getLogger(__name__)


class LostEnd:
    """What a start finds missing at the end of its log, and says until somebody has looked after it. Whether there is
    anything is in `found`."""

    def __init__(self, data_dir: Path, log: SQLiteLog) -> None:
        self._data_dir, self._log = data_dir, log
        self._shorter: list[str] = []
        self.found = log.cut

    async def look(self) -> None:
        """Once, before anything is written: add to the log's warnings what is found. A log that is new has no end."""
        head = await self._log.head()
        known = max(await asyncio.to_thread(_known, self._data_dir))
        if known > head and self._log.previous is not None:
            self._shorter.append(
                f"the log ended at position {head} when it was opened, though position {known} had been recorded: it is"
                " an older copy, or its end was lost; what NATS has of it comes back"
            )
            self._log.warnings += self._shorter
            self.found = True
        for said in self.ails():
            logger.error("%s", said)

    def ails(self) -> list[str]:
        """For health: of a log that was shorter when it was opened, and of damaged write-ahead logs that were kept."""
        try:
            kept = kept_beside(self._data_dir / rows.FILE)
        except OSError as error:  # such as that no more files can be opened
            return [*self._shorter, f"the data directory cannot be looked into: {os.strerror(error.errno or 0)}"]
        return self._shorter + [
            f"the log's end was damaged when a server started; what was there is kept as {name} until somebody moves it"
            for name in kept
        ]


def _known(data_dir: Path) -> list[int]:
    """Positions that there were: of the low-water mark, and of projections. Both are written behind the log."""
    return [LowWater(data_dir).read() or 0, *_folded(data_dir)]


def _folded(data_dir: Path) -> Iterator[int]:
    folded = Reader(data_dir)
    try:
        yield from [found.position for found in checkpoint.load(folded.rows()).values()]
    except (NotReady, sqlite3.Error):
        pass  # it is made anew
    finally:
        folded.close()
