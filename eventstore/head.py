"""The log's head, as its writer knows it or as another process was told it, and those who wait for it to move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable


class Head:
    """The position of the last durable row. Moves on one event loop, and never back; a follower keeps nothing but its
    own place."""

    def __init__(self, position: int) -> None:
        self.position = position
        self.on_commit: Callable[[int], None] | None = None
        self._moved: asyncio.Future[None] | None = None
        self._closed = False

    def advance(self, position: int) -> None:
        """Rows up to `position` are durable: wake all who wait, once."""
        if position > self.position:
            self.position = position
            self._wake()
            if self.on_commit is not None:
                self.on_commit(position)

    def close(self) -> None:
        """Every follower ends."""
        self._closed = True
        self._wake()

    async def follow(self, after: int) -> AsyncIterator[int]:
        """As `Log.follow`; ends when the log is closed."""
        while True:
            if self.position > after:
                after = self.position
                yield after
            elif self._closed:
                return
            else:
                await self._next()

    async def past(self, position: int, timeout_s: float) -> None:
        """Return when the head is past `position`, or after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.position <= position:
                    await self._next()
        except TimeoutError:
            pass

    async def _next(self) -> None:
        if self._moved is None:
            self._moved = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._moved)  # one follower's cancellation is not the others'

    def _wake(self) -> None:
        if self._moved is not None:
            self._moved.set_result(None)
            self._moved = None
