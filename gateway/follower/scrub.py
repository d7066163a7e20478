"""Reads the whole log again and again, so slowly that nobody notices, and looks whether it is still what was written.

Who is shown something has it checked then. What nobody asks for would rot unseen, until the copies in NATS are gone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from eventstore.errors import LogCorrupt, LogUnavailable
from eventstore.reader import Reader
from eventstore.rows import PAGE
from eventstore.verify import Finding, Verifier
from gateway.exchange.runs import run_of

logger = logging.getLogger(__name__)


class Scrub:
    """`status` is `{position, passes, findings, first}`: how far this pass has come, how many were made, how many rows
    are not as they were written (of the last whole pass, or of this one where that has found more), and the position of
    the first. Blobs are not read here: each is compared with its digest whenever it is used."""

    verifier = Verifier
    share = 0.01
    """Of one core's time."""
    first_s, again_s = 60.0, 3_600.0
    """Before the first pass, and between two."""

    def __init__(self, data_dir: Path, changed: Callable[[], None]) -> None:
        self._data_dir, self._changed = data_dir, changed
        self._passes = self._position = 0
        self._before: list[int] = []
        self._now: list[int] = []

    @property
    def status(self) -> dict[str, Any]:
        known = max(self._now, self._before, key=len)
        first = known[0] if known else None
        return {"position": self._position, "passes": self._passes, "findings": len(known), "first": first}

    async def run(self) -> None:
        """Pass after pass, until cancelled."""
        await asyncio.sleep(self.first_s)
        while True:
            await self._pass()
            self._before, self._now, self._position = self._now, [], 0
            self._passes += 1
            self._changed()
            await asyncio.sleep(self.again_s)

    async def _pass(self) -> None:
        try:
            reader = await asyncio.to_thread(Reader, self._data_dir)
        except LogUnavailable as error:
            logger.warning("the log is not read again: %s", error)
            return
        pieces = self._pieces(reader)
        while (piece := await asyncio.to_thread(_timed, pieces)) is not None:
            found, took = piece
            self._note(found)
            await asyncio.sleep(took / self.share)
        reader.close()

    def _pieces(self, reader: Reader) -> Iterator[list[Finding]]:
        """What is wrong with the log as it is now, a page of it at a time; ends where history is dropped meanwhile."""
        try:
            dropped, until = reader.dropped(), reader.head()
            verifier = self.verifier(run_of, dropped, versions=False)
            while (page := reader.read(self._position, PAGE, until=until)) and reader.dropped() == dropped:
                yield [finding for row in page for finding in verifier.check(row)]
                self._position = page[-1].position
        except LogCorrupt as error:  # what is behind it is looked at when this is mended
            yield [Finding(error.position, error.what)]
        except LogUnavailable as error:  # as where a disk rots: it refuses what it cannot read as it was written
            yield [Finding(self._position + 1, str(error))]

    def _note(self, found: list[Finding]) -> None:
        for finding in found:
            logger.error("the log is damaged: position %s: %s", finding.position, finding.what)
            self._now.append(finding.position)
        if found:
            self._changed()


def _timed(pieces: Iterator[list[Finding]]) -> tuple[list[Finding], float] | None:
    """The next piece's findings, and the seconds that they took; None behind the last."""
    began = time.monotonic()
    found = next(pieces, None)
    return None if found is None else (found, time.monotonic() - began)
