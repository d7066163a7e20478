"""The server with less patience than the real one, so that tests need less.

    python -m tests.load.impatient_server BEHIND HEAD_S STALLED_S ...

BEHIND is how many bytes a client may be behind before it reads the log instead, HEAD_S how many seconds a connection
may take for the head of its first request, STALLED_S how many a client may take nothing; what follows is for the
server.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from dataclasses import replace
from typing import ClassVar

from gateway.__main__ import raise_open_files
from gateway.api.outlet import Pace
from gateway.connection import Connection
from gateway.server import Server
from tests.otherserver import run

KERNEL_BYTES = 16 << 10


class Hasty(Connection):
    """Waits for a head as long as it is told."""


class Impatient(Server):
    """A server of such connections. Clients that take nothing for a moment have left, and the kernel has little room
    for them."""

    connection = Hasty
    pace: ClassVar[Pace]

    async def _listen(self, listening: socket.socket) -> asyncio.Server:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)  # its connections inherit it
        return await super()._listen(listening)

    def _compose(self) -> None:
        super()._compose()
        self.desk = replace(self.desk, pace=self.pace)


def main(behind: str, head_s: str, stalled_s: str, *args: str) -> None:
    raise_open_files()
    Hasty.head_s = float(head_s)
    Impatient.pace = Pace(behind=int(behind), stalled_s=float(stalled_s))
    run(Impatient, args)


if __name__ == "__main__":
    main(*sys.argv[1:])
