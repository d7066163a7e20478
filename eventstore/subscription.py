"""Following the log from any place in it: catching up, live, behind. A slow consumer has a cursor here and no queue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from enum import Enum

from eventstore.envelope import Recorded, RecordedEvent
from eventstore.errors import LogCorrupt
from eventstore.log import Log

BATCH = 500
BATCH_BYTES = 64 << 10
"""A batch weighs no more, unless one row does: while its consumer is slow it is all that is kept of the log."""
FIRST = 16
"""Rows of the first read: what they weigh is not known yet."""


class State(Enum):
    """Where a subscription stands."""

    CATCHING_UP = "catching_up"
    """It began in the past and has not met the head yet."""
    LIVE = "live"
    """It has delivered everything up to the head, at least once, and is at most one batch behind it."""
    BEHIND = "behind"
    """It was live; its consumer is now more than a batch behind the head. It reads on from the log."""
    ENDED = "ended"
    """The log was closed."""


class Subscription:
    """An asynchronous iterator of batches: lists of rows with `position > after`, in order, never empty.

    With `types` only ledger events of these types come, else all; `frames` adds the frames lane. Each batch is read
    when it is asked for. `position` is how far the log has been read, passed-over rows included: a consumer that stores
    it after handling a batch resumes there. What is dropped before it is come to is passed over. Raises `LogCorrupt`
    where an event is missing from its origin's sequence.
    """

    def __init__(
        self,
        log: Log,
        after: int,
        types: Collection[str] | None = None,
        frames: bool = False,
        batch: int = BATCH,
        batch_bytes: int = BATCH_BYTES,
    ) -> None:
        self._log, self._frames, self._batch, self._bytes = log, frames, batch, batch_bytes
        self._asked = min(FIRST, batch)
        self._types = None if types is None else frozenset(types)
        self._heads = log.follow(after)
        self._oseqs: dict[str, int] = {}
        self.position = after
        self.state = State.CATCHING_UP

    def __aiter__(self) -> AsyncIterator[list[Recorded]]:
        return self

    async def __anext__(self) -> list[Recorded]:
        while self.state is not State.ENDED:
            head = await self._log.head()
            if head <= self.position:
                await self._wait()
                continue
            if self.state is State.LIVE and head - self.position > self._batch:
                self.state = State.BEHIND
            if rows := self._chosen(await self._read(head)):
                return rows
        raise StopAsyncIteration

    async def _wait(self) -> None:
        self.state = State.LIVE
        try:
            while await anext(self._heads) <= self.position:
                pass
        except StopAsyncIteration:
            self.state = State.ENDED

    async def _read(self, head: int) -> list[Recorded]:
        found = await self._log.read(self.position, self._asked, until=head, frames=self._frames)
        if self.position < self._log.dropped:  # asked afterwards: what is missing here may have gone
            self._oseqs.clear()
        rows = self._kept(found)
        for row in rows:
            if isinstance(row, RecordedEvent):
                self._check_gap(row)
        self.position = head if len(rows) == len(found) < self._asked else rows[-1].position
        self._asked = min(self._batch, 2 * self._asked) if len(rows) == len(found) else len(rows)
        return rows

    def _kept(self, found: list[Recorded]) -> list[Recorded]:
        """The rows at the beginning that weigh no more than a batch may, one at least; the rest is read again."""
        weight = 0
        for number, row in enumerate(found):
            weight += len(row.data if isinstance(row, RecordedEvent) else row.bytes)
            if number and weight > self._bytes:
                return found[:number]
        return found

    def _check_gap(self, event: RecordedEvent) -> None:
        last = self._oseqs.get(event.origin)
        if last is not None and event.oseq != last + 1:
            raise LogCorrupt(event.position, f"oseq {event.oseq} of {event.origin} follows {last}")
        self._oseqs[event.origin] = event.oseq

    def _chosen(self, rows: list[Recorded]) -> list[Recorded]:
        types = self._types
        if types is None:
            return rows
        return [row for row in rows if not isinstance(row, RecordedEvent) or row.type in types]
