"""The server that moves its write-ahead log into the database a hundred times as often as the real one, so that tests
see in seconds what becomes of it; and such with a bug.

    python -m tests.load.frequent_server KIND ...

`frequent`: as it should be. `starved`: readers that come one after the other are never waited for. What follows KIND is
for the server.
"""

from __future__ import annotations

import sys

from eventstore.sqlite import SQLiteLog
from eventstore.writer import Writer
from gateway.__main__ import raise_open_files
from gateway.server import Server
from tests.otherserver import run


class Frequent(Writer):
    """Does so."""

    commits_per_checkpoint = 10
    large_pages = 100


class Starved(Frequent):
    """The bug: the log is begun anew when nobody happens to read."""

    def _begin_anew(self, pages: int) -> None:
        pass


class Log(SQLiteLog):
    """Written so."""


class Kept(Server):
    """On such a log."""

    store = Log


KINDS = {"frequent": Frequent, "starved": Starved}

if __name__ == "__main__":
    raise_open_files()
    Log.writer = KINDS[sys.argv[1]]
    run(Kept, sys.argv[2:])
