"""A small process that asks more of the log than a slow disk can take. Says how much waited at most, whether new work
was refused, and how late the event loop was at worst:

    waiting N · busy 0|1 · lag_ms N · written N

    python -m tests.faults.flood DATA_DIR KIND
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import Future
from pathlib import Path

from eventstore.envelope import NEW_STREAM, Appended
from eventstore.errors import LogBusy
from eventstore.sqlite import QUEUED_APPENDS, SQLiteLog
from eventstore.writer import Writer
from tests.eventstore.builders import write
from tests.faults.driver import say

BEFORE = 4
"""Appends, and so syncs, before the flood."""
SLOW_S = 2.0
"""How long one of the syncs in the flood takes."""
MOST = 2 * QUEUED_APPENDS
TICK_S = 0.005


class Unbounded(SQLiteLog):
    """The bug: whatever waits, more is taken."""

    def _admit(self) -> None:
        pass


class Idle(Writer):
    """Leaves the checkpoints too."""

    def _checkpoint_is_due(self, *, idle: bool) -> bool:
        return False


class OnTheLoop(SQLiteLog):
    """The bug: commits where everybody waits. Takes no more once it was late, as that is seen."""

    writer = Idle
    _late = False

    def _hand_over(self) -> None:
        turn, self._turn = self._turn, []
        before = self._loop.time()
        self._writer._handle(turn)
        self._late = self._late or self._loop.time() - before > SLOW_S / 2

    def _admit(self) -> None:
        if self._late:
            raise LogBusy("it was late")


KINDS: dict[str, type[SQLiteLog]] = {kind.__name__: kind for kind in (SQLiteLog, Unbounded, OnTheLoop)}


class Lag:
    """How late the event loop came at worst, in seconds."""

    worst = 0.0

    async def watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(TICK_S)
            self.worst = max(self.worst, loop.time() - before - TICK_S)


class Flood:
    """Appends that nobody waited for. `most` is how many waited at once, `busy` whether one was refused."""

    def __init__(self, log: SQLiteLog) -> None:
        self._log = log
        self._waiting = self.most = 0
        self.busy = False
        self.taken: list[Future[Appended]] = []

    async def rise(self) -> None:
        """Append until one is refused."""
        while not self.busy and self._waiting < MOST:
            try:
                self._append()
            except LogBusy:
                self.busy = True
            if len(self.taken) % 10 == 0:
                await asyncio.sleep(0)

    def _append(self) -> None:
        future = self._log.append(write(f"request-{BEFORE + len(self.taken)}", NEW_STREAM), admit=True)
        future.add_done_callback(self._done)
        self.taken.append(future)
        self._waiting += 1
        self.most = max(self.most, self._waiting)

    def _done(self, _: Future[Appended]) -> None:
        self._waiting -= 1


async def flood(data_dir: Path, kind: type[SQLiteLog]) -> None:
    """Append without waiting, and then wait for all that was taken."""
    log = await kind.open(data_dir)
    for number in range(BEFORE):
        await log.append(write(f"request-{number}", NEW_STREAM))
    lag, rising = Lag(), Flood(log)
    watch = asyncio.create_task(lag.watch())
    await rising.rise()
    await asyncio.gather(*rising.taken)
    watch.cancel()
    say("waiting", str(rising.most))
    say("busy", str(int(rising.busy)))
    say("lag_ms", f"{lag.worst * 1000:.1f}")
    say("written", str(len(await log.read(0, 1 << 30))))
    await log.close()


if __name__ == "__main__":
    asyncio.run(flood(Path(sys.argv[1]), KINDS[sys.argv[2]]))
