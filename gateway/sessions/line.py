"""Those who wait for a session: in the order they came, one of them looking at a time.

Only a courtesy within this process. Who gets a turn is decided by the version of the session's stream, in the commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary


class Line:
    """`place` is the head of a session's line; `left` says that somebody's turn is over, and `look` hears it."""

    def __init__(self) -> None:
        self._heads: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._over: dict[str, asyncio.Event] = {}

    @asynccontextmanager
    async def place(self, session_id: str, until: float) -> AsyncIterator[Callable[[], None]]:
        """Wait to be the first in line, at most until a moment of the loop's clock; then whether first or not. What is
        given lets the next one come, before the block ends."""
        lock = self._heads.setdefault(session_id, asyncio.Lock())
        first = False
        try:
            async with asyncio.timeout_at(until):
                first = await lock.acquire()
        except TimeoutError:
            pass  # its time is over: what it finds now counts

        def leave() -> None:
            nonlocal first
            if first:
                first = False
                lock.release()

        try:
            yield leave
        finally:
            leave()

    def look(self, session_id: str) -> asyncio.Event:
        """Is set when the next turn is over. To be asked for before the session is looked at."""
        return self._over.setdefault(session_id, asyncio.Event())

    def left(self, session_id: str) -> None:
        """A turn is over."""
        if (over := self._over.pop(session_id, None)) is not None:
            over.set()
