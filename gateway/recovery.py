"""What a start does about the past: it ends what was left open, and what comes back open from JetStream.

The low-water mark, which is kept near the oldest of what is open while the server runs, says from where to look. How
one exchange is ended is told in `gateway.exchange.recover`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

from eventstore.reader import Reader
from eventstore.sqlite import SQLiteLog, wall_clock_us
from gateway.api.groups import settle as settle_groups
from gateway.exchange.decide import Price
from gateway.exchange.recover import LowWater, interrupt, open_streams
from gateway.follower.supervise import Follower
from gateway.lost_mark import open_from
from gateway.tools.execute import interrupt as end_runs


class Recovery:
    """For the log of `data_dir`. `positions`: of each thing that is open now, one before its first event."""

    past_within_s = 3.0
    """How long a start with exchanges to end waits for NATS, which may hold their end."""

    def __init__(
        self,
        data_dir: Path,
        log: SQLiteLog,
        price: Price,
        follower: Follower,
        positions: Callable[[], Iterable[int]],
    ) -> None:
        self._data_dir, self._log, self._price = data_dir, log, price
        self._follower, self._positions = follower, positions
        self._mark = LowWater(data_dir)
        self._recovered = False

    async def recover(self) -> None:
        """End what the incarnation before left open. Where something is, the log may be an older copy: what JetStream
        has of its past comes back first, since the end may be in it."""
        with Reader(self._data_dir) as reader:
            after = self._mark.read()
            if after is None or after > reader.head():
                after = open_from(reader)
            if open_streams(reader, after):
                await self._follower.compared(self.past_within_s)
            for stream in open_streams(reader, after):
                await interrupt(self._log, reader, stream, self._price, wall_clock_us())
            await end_runs(self._log, reader, after)
            await settle_groups(self._log, reader, after)
        self._mark.write(await self._log.head())
        self._recovered = True

    async def end_what_comes_back(self) -> None:
        """End what came back from JetStream without its end, however late it came."""
        if not await self._follower.compared(None):
            return
        with Reader(self._data_dir) as reader:
            for stream in open_streams(reader, _start_of(reader, self._log.origin)):
                if reader.read_stream(stream)[-1].origin != self._log.origin:
                    await interrupt(self._log, reader, stream, self._price, wall_clock_us())

    async def keep_mark(self, every_s: float) -> None:
        """Keep the low-water mark near the oldest that is open, so that a crash costs little to recover from."""
        while True:
            await asyncio.sleep(every_s)
            await self.mark()

    async def mark(self) -> None:
        """Move the mark to a position before the first event of all that is open. A start that failed leaves it: what
        it did not end is for the next."""
        if not self._recovered:
            return
        head = await self._log.head()
        self._mark.write(min([head, *self._positions()]))


def _start_of(reader: Reader, origin: str) -> int:
    """The position before the first event of an incarnation."""
    events = reader.read_stream(f"node-{origin}")
    return events[0].position - 1 if events else 0
