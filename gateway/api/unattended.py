"""An answer that no client waits for: it is in the log, for whoever asks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from gateway.exchange.inputs import Submission
from gateway.exchange.run import Exchanges

_TASKS: set[asyncio.Task[None]] = set()
"""The loop holds tasks weakly."""


class Refusal(Exception):
    """The exchange did not begin: what its client is told instead."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(status)
        self.status, self.headers, self.body = status, headers, body


class Unattended:
    """The outlet of such an exchange. `started` is set once the request and its call are recorded."""

    began = False

    def __init__(self) -> None:
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def prepare(self, headers: Mapping[str, str]) -> None:
        if "x-abstractcore-position" in headers and not self.started.done():
            self.started.set_result(None)

    async def release(self, data: bytes) -> None:
        """It is in the log."""

    def ending(self) -> None:
        """Nobody is kept waiting."""

    async def finish(self, data: bytes) -> None:
        """It is in the log."""

    async def abort(self) -> None:
        """Nobody could take it for the whole."""

    def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        if not self.started.done():
            self.started.set_exception(Refusal(status, headers, body))

    def gone(self) -> bool:
        """Nobody is there who could leave."""
        return False

    def tick(self, now: float) -> None:
        """No connection to keep alive."""


async def begin(exchanges: Exchanges, submission: Submission) -> None:
    """Start an exchange that goes on by itself; returns when it is recorded. Raises `Refusal`, and what `run` does."""
    outlet = Unattended()
    task = asyncio.create_task(exchanges.run(submission, outlet))
    _TASKS.add(task)
    task.add_done_callback(_TASKS.discard)
    await asyncio.wait([task, outlet.started], return_when=asyncio.FIRST_COMPLETED)
    if task.done() and not outlet.started.done():
        outlet.started.cancel()
        task.result()
        return
    outlet.started.result()
