"""The server with the deliberate bug: an answer goes on only while NATS can be reached."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import uvloop

from gateway.__main__ import greet
from gateway.config import load
from gateway.exchange.attempt import Attempt
from gateway.exchange.run import Exchanges
from gateway.exchange.running import Running
from gateway.server import Server


class NatsFirst(Exchanges):
    """Asks after the relay before it hands bytes over."""

    relay: ClassVar[Callable[[], Any]]

    async def _release(self, running: Running, attempt: Attempt) -> None:
        if self.relay().get("state") == "down":
            raise ConnectionError("no NATS, no answer")
        await super()._release(running, attempt)


class Tied(Server):
    """A server that runs its exchanges so."""

    runs = NatsFirst


async def serve() -> None:
    server = Tied(load(sys.argv[1:], os.environ))
    NatsFirst.relay = staticmethod(lambda: server.follower.status["relay"])
    await server.start()
    await greet(server, None)
    await server.wait()


if __name__ == "__main__":
    uvloop.run(serve())
