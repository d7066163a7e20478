"""The server with the deliberate bug: of an answer whose client has left it forgets what had come."""

from __future__ import annotations

from dataclasses import replace

from gateway.exchange.attempt import Attempt
from gateway.exchange.inputs import Input, Left
from gateway.exchange.run import Exchanges
from gateway.exchange.running import Running, Verdict
from gateway.server import Server
from tests.otherserver import run


class Unsettled(Exchanges):
    """Counts nothing of it."""

    def _ending(self, running: Running, attempt: Attempt, verdict: Verdict | None, began: bool) -> tuple[Input, bytes]:
        happened, rest = super()._ending(running, attempt, verdict, began)
        if isinstance(happened, Left):
            happened = replace(happened, seen=replace(happened.seen, text_length=0, usage=None))
        return happened, rest


class Forgetful(Server):
    """A server that runs its exchanges so."""

    runs = Unsettled


if __name__ == "__main__":
    run(Forgetful)
