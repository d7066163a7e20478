"""The server with the deliberate bug: it calls the provider, and records the request and the call a moment later."""

from __future__ import annotations

import asyncio

from gateway.exchange.attempt import Attempt
from gateway.exchange.plan import Plan
from gateway.exchange.run import Exchanges
from gateway.exchange.running import Running
from gateway.server import Server
from tests.otherserver import run

LATER_S = 30.0
"""Nobody waits for it: the server is killed before."""


class CallFirst(Exchanges):
    """Lets the call leave first."""

    async def _admitted(self, running: Running, plan: Plan) -> Attempt:
        await plan.upstream.open(plan.provider, plan.call, plan.api_key)
        await asyncio.sleep(LATER_S)
        return await super()._admitted(running, plan)


class Hurried(Server):
    """A server that runs its exchanges so."""

    runs = CallFirst


if __name__ == "__main__":
    run(Hurried)
