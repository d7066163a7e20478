"""The server with the deliberate bug: it takes new work whatever the disk has left, and holds no ballast."""

from __future__ import annotations

from eventstore.space import DiskSpace
from eventstore.sqlite import SQLiteLog
from gateway.server import Server
from tests.otherserver import run


class Careless(DiskSpace):
    """Nothing to give up, and nothing kept back."""

    reserve = 0

    def _take(self) -> bool:
        return True


class CarelessLog(SQLiteLog):
    """A log on such a disk."""

    space = Careless


class Unballasted(Server):
    """A server with such a log."""

    store = CarelessLog


if __name__ == "__main__":
    run(Unballasted)
