"""The server with the deliberate bug: an answer goes on only while NATS can be reached."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from gateway.config import Settings
from gateway.exchange.attempt import Attempt
from gateway.exchange.run import Exchanges
from gateway.exchange.running import Running
from gateway.server import Server
from tests.otherserver import run


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

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        NatsFirst.relay = staticmethod(lambda: self.follower.status["relay"])


if __name__ == "__main__":
    run(Tied)
