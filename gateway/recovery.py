"""What a start does about the past: it lets come back from JetStream what the log lacks, and ends what was left open.

Each incarnation has an origin of its own, and says of itself what it says on a stream of its own: that is never in the
way of what comes back. All else that a start may write goes on in streams of those before it (prices, what was
configured, the ends of what is open). Where the log is an older copy JetStream has other events there, which could not
be taken in any more, nor what was written behind them. So their past comes back before the first of it is written; and
before any of it is read, so that the server goes by what was said last.

The low-water mark, which is kept near the oldest of what is open while the server runs, says from where to look. How
one exchange is ended is told in `gateway.exchange.recover`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from eventstore.reader import Reader
from eventstore.sqlite import SQLiteLog, wall_clock_us
from gateway.api.groups import left_open as groups_left_open
from gateway.api.groups import settle as settle_groups
from gateway.exchange.decide import Price
from gateway.exchange.recover import LowWater, interrupt, open_streams
from gateway.follower.supervise import Follower
from gateway.lost_mark import open_from
from gateway.pricing import lacks_prices
from gateway.tools.execute import interrupt as end_runs
from gateway.tools.execute import left_open as runs_left_open
from gateway.upstreams.upstream import Provider

logger = logging.getLogger(__name__)


class Repeating(Protocol):
    """What keeps in the log what was configured while a server ran."""

    async def repeats(self, sealed: int) -> bool:
        """Whether a start says some of it again, as that lies up to the position `sealed`."""


class Recovery:
    """For the log of `data_dir`. `positions`: of each thing that is open now, one before its first event."""

    past_within_s = 3.0
    lost_within_s = 30.0
    """How long a start waits for NATS before it writes where NATS may have something else; and where the log's end is
    known to be lost."""

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

    async def past(
        self, lost: bool, reader: Reader, providers: Mapping[str, Provider], kept: Iterable[Repeating]
    ) -> None:
        """Let come back what JetStream has of this node's past, all of it, where some is `lost`, or this start may
        write where incarnations before it ended. A log that is new has no past."""
        goes_on = self._log.previous is not None and await self._goes_on(reader, providers, kept)
        if not self._follower.relays or not (lost or goes_on):
            return
        if not await self._follower.compared(self.lost_within_s if lost else self.past_within_s):
            logger.warning(
                "NATS could not be asked in time for history that this log may lack; what it has behind events that are"
                " written from now on may not fit to them when it comes"
            )

    async def _goes_on(self, reader: Reader, providers: Mapping[str, Provider], kept: Iterable[Repeating]) -> bool:
        if self.unsure() or lacks_prices(reader, providers):
            return True
        return any([await each.repeats(reader.sealed()) for each in kept])

    def unsure(self) -> bool:
        """Whether something was left open, whose end JetStream may have, or nothing tells where the log had ended."""
        after = self._mark.read()
        with Reader(self._data_dir) as reader:
            return (
                after is None
                or after > reader.head()
                or bool(open_streams(reader, after) or runs_left_open(reader, after) or groups_left_open(reader, after))
            )

    async def recover(self) -> None:
        """End what the incarnation before left open."""
        with Reader(self._data_dir) as reader:
            after = self._mark.read()
            if after is None or after > reader.head():
                after = open_from(reader)
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
