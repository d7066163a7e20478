"""The server whose feeds have another patience with who takes nothing, with little room for clients in the kernel; and
such with a bug.

    python -m tests.load.feed_server KIND STALLED_S ...

`cursors`: as it should be. `hoarding`: all that there is, up to 200 events, waits in memory for a client. `waiting`:
each event waits until everybody has taken those before it. What follows STALLED_S is for the server.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from eventstore import subscription
from eventstore.subscription import Subscription
from gateway.api import events
from gateway.api.events import Listener
from gateway.api.outlet import USUAL
from projections.feed import PING
from tests.load.impatient_server import main

ALL = 1 << 40


class Told(Listener):
    """With such patience."""

    stalled_s: ClassVar[float]

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._pace = replace(self._pace, stalled_s=self.stalled_s)


class Waiting(Told):
    """The bug: one after the other."""

    turn = asyncio.Lock()

    async def _write(self, data: bytes) -> None:
        if data == PING:
            await super()._write(data)
            return
        async with self.turn:
            await super()._write(data)


if __name__ == "__main__":
    kind, Told.stalled_s = sys.argv[1], float(sys.argv[2])
    events.Listener = Waiting if kind == "waiting" else Told  # type: ignore[misc]  # the bug
    if kind == "hoarding":
        events.Subscription = partial(Subscription, batch_bytes=ALL)  # type: ignore[assignment,misc]
        subscription.FIRST, events.PIECE = events.BATCH, ALL
    main(str(USUAL.behind), "15", "30", *sys.argv[3:])
