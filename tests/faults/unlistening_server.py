"""The server with a bug put in on purpose: it takes connections in a way of its own.

    python -m tests.faults.unlistening_server BUG ...

`spinning`: where no file can be opened, it tries again at once. `deaf`: it takes none any more. What follows BUG is for
the server.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from functools import partial

from gateway import listener
from gateway.connection import Connection
from gateway.server import Server
from tests.otherserver import run


class Taking:
    """Takes connections for as long as there are files for them."""

    def __init__(self, kind: type[Connection], listening: socket.socket, manager: object, deaf: bool) -> None:
        self._made = partial(kind, manager, loop=asyncio.get_running_loop(), access_log=None)
        self._listening, self._deaf = listening, deaf
        self._tasks: set[asyncio.Task[object]] = set()
        listening.listen(listener.BACKLOG)
        asyncio.get_running_loop().add_reader(listening, self._take)

    def _take(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            taken, _ = self._listening.accept()
        except OSError:
            if self._deaf:
                self.close()
            return
        task = loop.create_task(loop.connect_accepted_socket(self._made, taken))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._listening)
        self._listening.close()


class Unlistening(Server):
    """Does so."""

    deaf = False

    async def _listen(self, listening: socket.socket) -> asyncio.Server:
        return Taking(self.connection, listening, self._runner.server, self.deaf)  # type: ignore[return-value]  # only closed


if __name__ == "__main__":
    Unlistening.deaf = sys.argv[1] == "deaf"
    run(Unlistening, sys.argv[2:])
