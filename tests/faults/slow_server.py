"""The server on a disk whose syncs take long for as long as there is a file that $SLOW names, with little room for what
waits; and such with a bug.

    SLOW=FILE python -m tests.faults.slow_server KIND ...

What follows KIND is for the server.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from eventstore import sqlite
from eventstore.batch import Batch
from eventstore.sqlite import SQLiteLog
from eventstore.writer import Writer
from gateway.server import Server
from tests.faults.flood import SLOW_S
from tests.otherserver import run

SLOW = "SLOW"
ROOM = 1 << 20


class SlowWriter(Writer):
    """Waits for such a disk."""

    def _write(self, batch: Batch, new: bool) -> None:
        if Path(os.environ[SLOW]).exists():
            time.sleep(SLOW_S)
        super()._write(batch, new)


class SlowLog(SQLiteLog):
    """On such a disk."""

    writer = SlowWriter


class UnboundedLog(SlowLog):
    """The bug: whatever waits, more is taken."""

    def _admit(self) -> None:
        pass


class OnTheLoopLog(SQLiteLog):
    """The bug: everybody waits for the disk."""

    def _hand_over(self) -> None:
        if Path(os.environ[SLOW]).exists():
            time.sleep(SLOW_S)
        super()._hand_over()


class Slow(Server):
    """A server with such a log."""

    store = SlowLog


class Unbounded(Server):
    """One that takes whatever comes."""

    store = UnboundedLog


class OnTheLoop(Server):
    """One whose event loop waits for the disk."""

    store = OnTheLoopLog


KINDS: dict[str, type[Server]] = {kind.__name__: kind for kind in (Slow, Unbounded, OnTheLoop)}

if __name__ == "__main__":
    sqlite.QUEUED_BYTES = ROOM
    run(KINDS[sys.argv[1]], sys.argv[2:])
