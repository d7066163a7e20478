"""The server with the deliberate bug: a turn is recorded apart from its request, a moment later."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import uvloop

from eventstore.envelope import Appended, StreamWrite
from eventstore.sqlite import SQLiteLog
from gateway.__main__ import greet
from gateway.config import load
from gateway.server import Server

LATER_S = 30.0
"""Nobody waits for it: the server is killed before."""


class Apart(SQLiteLog):
    """Makes several commits of what should be one."""

    def append(self, *writes: StreamWrite, **more: Any) -> asyncio.Future[Appended]:
        if len(writes) < 2:
            return super().append(*writes, **more)
        return asyncio.ensure_future(self._apart(writes, more))

    async def _apart(self, writes: tuple[StreamWrite, ...], more: dict[str, Any]) -> Appended:
        appended = await super().append(writes[-1], **more)
        await asyncio.sleep(LATER_S)
        await super().append(*writes[:-1])
        return appended


class Careless(Server):
    """A server with such a log."""

    store = Apart


async def serve() -> None:
    server = Careless(load(sys.argv[1:], os.environ))
    await server.start()
    await greet(server, None)
    await server.wait()


if __name__ == "__main__":
    uvloop.run(serve())
