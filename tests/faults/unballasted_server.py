"""The server with the deliberate bug: it takes new work whatever the disk has left, and holds no ballast."""

from __future__ import annotations

import os
import sys

import uvloop

from eventstore.space import DiskSpace
from eventstore.sqlite import SQLiteLog
from gateway.__main__ import greet
from gateway.config import load
from gateway.server import Server


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


async def serve() -> int:
    server = Unballasted(load(sys.argv[1:], os.environ))
    await server.start()
    await greet(server, None)
    await server.wait()
    await server.stop()
    return server.exit_code


if __name__ == "__main__":
    sys.exit(uvloop.run(serve()))
