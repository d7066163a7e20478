"""The durable log: one SQLite file, one writer thread with group commit, readers beside it.

An append is queued at the call, and its future is done when its transaction is on the disk. See writer.py for the
commit, batch.py for how rows are made, schema.sql for the row, sqlite_reads.py for how rows are read.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import aiosqlite

from eventstore import rows
from eventstore.batch import Besides, Waiting
from eventstore.chain import quoted
from eventstore.database import Opened, open_database, sqlite_warnings
from eventstore.envelope import ANY_VERSION, Appended, NewEvent, NewFrames, StreamWrite
from eventstore.errors import LogBusy, LogClosed, LogError, LogFull, LogHeld
from eventstore.head import Head
from eventstore.ingest import PulledEvent, Taken
from eventstore.lock import DirectoryLock
from eventstore.sealing import Dropping, Sealing, give_back_pages
from eventstore.space import DiskSpace
from eventstore.sqlite_reads import Reads
from eventstore.writer import HELD, Writer

QUEUED_APPENDS = 10_000
QUEUED_BYTES = 32 << 20
"""New work is refused while more than this waits to be written: what 10,000 slow streams say in a second."""
ACKNOWLEDGED_AT_ONCE = 500
"""So many appends hear of their commit in one turn of the event loop; whoever else waits comes in between."""


def wall_clock_us() -> int:
    """Microseconds since 1970 UTC."""
    return time.time_ns() // 1_000


class SQLiteLog(Reads):
    """`eventstore.log.Log` over `<data_dir>/events.db`. Made by `open`, ended by `close`; used from one event loop.

    `previous` is `{origin, oseq, digest}` (digest in hex) of this node's incarnation before this one, or None.
    `warnings` are sentences for the operator. `cut` is as `Opened` has it.
    """

    writer = Writer
    space = DiskSpace
    """The classes of the thread and of its watch over the disk; tests prove their worth with broken ones."""

    def __init__(
        self,
        lock: DirectoryLock,
        opened: Opened,
        reader: aiosqlite.Connection,
        space: DiskSpace,
        now_us: Callable[[], int],
        on_commit: Callable[[int], None] | None,
        on_fatal: Callable[[Exception], None] | None,
        path: Path,
    ) -> None:
        super().__init__(path, reader, Head(opened.tail.position), opened.sealed)
        self._lock, self._space = lock, space
        self._origin, self._dropped = opened.tail.chain.origin, opened.dropped
        self._head.on_commit = on_commit
        self.previous: dict[str, Any] | None = opened.previous
        self.cut = opened.cut
        self.warnings: list[str] = [*opened.warnings, *sqlite_warnings(), *([space.warning] if space.warning else [])]
        self._queued = self._queued_bytes = 0
        self._turn: list[Waiting] = []
        self._durable: deque[Waiting] = deque()
        self._writer = self.writer(
            opened.connection,
            opened.tail,
            now_us,
            self._loop,
            self._acknowledge,
            on_fatal or (lambda error: None),
            space,
        )
        self._writer.start()

    @classmethod
    async def open(
        cls,
        data_dir: Path,
        *,
        now_us: Callable[[], int] = wall_clock_us,
        durability: str = "power",
        on_commit: Callable[[int], None] | None = None,
        on_fatal: Callable[[Exception], None] | None = None,
    ) -> SQLiteLog:
        """Take the data directory, check the end of the log and begin a new incarnation.

        `durability` is `power` (an acknowledged append survives a power cut) or `process` (a crash of the process).
        `on_commit` is called on the loop with the head after each commit, `on_fatal` once, when the disk refuses.
        Raises `LogLocked`, `LogCorrupt`, `LogUnavailable`.
        """
        lock = DirectoryLock(data_dir)
        path = data_dir / rows.FILE
        opened: Opened | None = None
        space: DiskSpace | None = None
        try:
            space = await asyncio.to_thread(cls.space, data_dir)
            opened = await asyncio.to_thread(open_database, path, durability)
            connecting = aiosqlite.connect(rows.read_only(path), uri=True, isolation_level=None, timeout=5)
            thread: Any = getattr(connecting, "_thread", connecting)
            thread.daemon = True  # a process that dies of an error does not wait for it
            reader = await connecting
        except BaseException:
            if opened is not None:
                opened.connection.close()
            if space is not None:
                space.close()
            lock.release()
            raise
        return cls(lock, opened, reader, space, now_us, on_commit, on_fatal, path)

    @property
    def on_commit(self) -> Callable[[int], None] | None:
        """Called on the loop with the head after each commit."""
        return self._head.on_commit

    @on_commit.setter
    def on_commit(self, hook: Callable[[int], None] | None) -> None:
        self._head.on_commit = hook

    @property
    def origin(self) -> str:
        """As `Log.origin`: the node's id and this incarnation's, 17 characters."""
        return self._origin

    @property
    def full(self) -> bool:
        """As `Log.full`."""
        return self._space.short

    @property
    def held(self) -> bool:
        """As `Log.held`."""
        return self._writer.held

    @property
    def dropped(self) -> int:
        """As `Log.dropped`."""
        return self._dropped

    def append(
        self,
        *writes: StreamWrite,
        frames: Sequence[NewFrames] = (),
        blobs: Sequence[bytes] = (),
        admit: bool = False,
    ) -> asyncio.Future[Appended]:
        """As `Log.append`. Cancelling the future does not take the append back.

        Raises `TypeError` for a stream name with lone surrogates: here, and not in the thread that all share."""
        if self._closed:
            raise LogClosed("the log is closed")
        if admit:
            self._admit()
        size = _size(writes, frames, blobs)
        future: asyncio.Future[Appended] = self._loop.create_future()
        self._hand(Waiting(writes, frames, blobs, future, size, new=admit))
        return future

    def ingest(self, pulled: Sequence[PulledEvent]) -> asyncio.Future[Taken]:
        """Take in events of earlier incarnations, chained as they are, in this order and in one commit: what is new and
        chains to what is here is stored at new positions; what does not is named in `Taken.refused`."""
        if self._closed:
            raise LogClosed("the log is closed")
        size = sum(len(event.data) for event in pulled)
        future: asyncio.Future[Taken] = self._loop.create_future()
        self._hand(Waiting((), (), (), future, size, pulled))
        return future

    async def seal(self, sealing: Sealing) -> Appended:
        """Append the event that says that a segment was archived, and delete its rows, in one commit. The segment must
        be durable in its file. Raises `LogRefused` where the segment is not the next one."""
        self._sealed = max(self._sealed, sealing.through)  # from here on the archive is asked for them
        done: Appended = await self._besides(sealing.event, sealing.apply)
        return done

    async def drop(self, dropping: Dropping) -> Appended:
        """Append the event that says that segments were dropped. Afterwards nobody reads their files."""
        self._dropped = max(self._dropped, dropping.through)
        done: Appended = await self._besides(dropping.event, dropping.apply)
        return done

    async def shrink(self) -> bool:
        """Give pages that hold nothing any more back to the file system, some at a time. Returns whether there are
        more that can be: of a file that was made without that, none are."""
        before = await self._free_pages()
        await self._besides(None, give_back_pages)
        return 0 < await self._free_pages() < before

    async def _free_pages(self) -> int:
        return int((await self._fetch("PRAGMA freelist_count", {}))[0][0])

    def _besides(self, event: NewEvent | None, besides: Besides) -> asyncio.Future[Any]:
        """Append an event of this node, if any, and do something besides in the same commit."""
        if self._closed:
            raise LogClosed("the log is closed")
        writes = () if event is None else (StreamWrite(f"node-{self._origin}", ANY_VERSION, (event,)),)
        future: asyncio.Future[Any] = self._loop.create_future()
        self._hand(Waiting(writes, (), (), future, besides=besides))
        return future

    def _hand(self, waiting: Waiting) -> None:
        """To the writer at the end of this turn of the loop, with all that the turn appends: each time that its thread
        wakes up it wants the interpreter, and gets in the way."""
        self._queued += 1
        self._queued_bytes += waiting.size
        self._turn.append(waiting)
        if len(self._turn) == 1:
            self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        turn, self._turn = self._turn, []
        for waiting in turn:
            self._writer.submit(waiting)

    def _admit(self) -> None:
        """Raises where new work would take the place of what was admitted before."""
        if self._space.short:
            raise LogFull("the disk is nearly full")
        if self._writer.held:
            raise LogHeld(HELD)
        if self._queued >= QUEUED_APPENDS or self._queued_bytes >= QUEUED_BYTES:
            raise LogBusy(f"{self._queued} appends are waiting for the disk")

    def _acknowledge(self, done: list[Waiting], head: int) -> None:
        """One call for a whole commit. Whoever hears of its append finds it in the log: nobody runs before the head has
        moved."""
        self._queued -= len(done)
        under_way = bool(self._durable)
        self._durable += done
        if not under_way:
            self._tell()
        self._head.advance(head)

    def _tell(self) -> None:
        """Tell some of those whose appends are durable, in their order."""
        for _ in range(min(len(self._durable), ACKNOWLEDGED_AT_ONCE)):
            append = self._durable.popleft()
            self._queued_bytes -= append.size
            if append.future.done():
                continue
            if isinstance(append.outcome, LogError):
                append.future.set_exception(append.outcome)
            elif append.outcome is not None:
                append.future.set_result(append.outcome)
        if self._durable:
            self._loop.call_soon(self._tell)

    async def close(self) -> None:
        """Write what was appended, let every follower end, and give the data directory back."""
        if self._closed:
            return
        self._closed = True
        await self._close_reads()  # before the writer, whose close is then the last and empties the write-ahead log
        self._hand_over()
        self._writer.stop()
        await asyncio.to_thread(self._writer.join)
        while self._durable:  # noqa: ASYNC110  each turn of the loop tells some of them
            await asyncio.sleep(0)
        self._head.close()
        self._lock.release()


def _size(writes: Sequence[StreamWrite], frames: Sequence[NewFrames], blobs: Sequence[bytes]) -> int:
    """Bytes of content. Plain loops: this runs for every append, mostly over one item."""
    size = 0
    for row in frames:
        size += len(row.bytes)
    for write in writes:
        quoted(write.stream)
        for event in write.events:
            size += len(event.fields)
    for blob in blobs:
        size += len(blob)
    return size
