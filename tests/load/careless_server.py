"""The server with a bug put in on purpose.

    python -m tests.load.careless_server BUG ...

`undrained`: it ends at once, whatever runs. `abrupt`: its follower ends before it has relayed what there is. `roomy`:
each of its connections to a provider has a buffer of its own. What follows BUG is for the server.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from gateway import server
from gateway.__main__ import main
from gateway.follower.supervise import Follower
from gateway.upstreams.http1 import Pool
from gateway.upstreams.http1_connection import SOCKET_BUFFER, Connection


async def end_at_once(self: server.Server) -> None:
    """Nobody is waited for, nothing is recorded."""
    os._exit(0)


class Abrupt(Follower):
    """Ends its child when it should let it finish."""

    async def stop(self, timeout_s: float = 5.0) -> None:
        if self._process is not None:
            self._process.kill()
        await super().stop(timeout_s)


class Roomy(Connection):
    """Reads where only it reads."""

    def __init__(self, open_ones: set[Connection]) -> None:
        super().__init__(open_ones)
        self._room = bytearray(b"-") * len(SOCKET_BUFFER)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(memoryview(self._room)[:nbytes]))


BUGS: dict[str, Callable[[], None]] = {
    "undrained": lambda: setattr(server.Server, "_drain", end_at_once),
    "abrupt": lambda: setattr(server, "Follower", Abrupt),
    "roomy": lambda: setattr(Pool, "connection", Roomy),
}

if __name__ == "__main__":
    BUGS[sys.argv[1]]()
    main(sys.argv[2:])
