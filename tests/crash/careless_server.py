"""The server with the deliberate bug: it releases what it has read, and commits it a moment later."""

from __future__ import annotations

import asyncio

from gateway.exchange.attempt import Attempt
from gateway.exchange.run import Exchanges
from gateway.exchange.running import Running
from gateway.server import Server
from tests.otherserver import run

LATER_S = 30.0
"""Nobody waits for it: the server is killed before."""


class ReleaseFirst(Exchanges):
    """Hands the bytes over first."""

    later_s = 0.2

    async def _release(self, running: Running, attempt: Attempt) -> None:
        text, attempt.text = attempt.text, b""
        if text:
            await running.outlet.release(attempt.settle(text))
        await asyncio.sleep(self.later_s)
        await super()._release(running, attempt)


class Careless(Server):
    """A server that runs its exchanges so."""

    runs = ReleaseFirst


if __name__ == "__main__":
    ReleaseFirst.later_s = LATER_S
    run(Careless)
