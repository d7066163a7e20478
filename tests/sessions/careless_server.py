"""The server with the deliberate bug: a turn is recorded apart from its request, a moment later."""

from __future__ import annotations

import asyncio
from typing import Any

from eventstore.envelope import Appended, StreamWrite
from eventstore.sqlite import SQLiteLog
from gateway.server import Server
from tests.otherserver import run

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


if __name__ == "__main__":
    run(Careless)
