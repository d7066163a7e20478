"""The one thread that writes: whatever waits becomes one transaction, one fsync, and one wake-up of the event loop.

The thread shares the interpreter lock with a busy event loop, and each call into SQLite gives the lock away and has to
win it back. So a batch is composed first, in plain Python, and then written in as few calls as there are tables.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable, Iterable
from functools import cache, partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

from eventstore.batch import Batch, Besides, Tail, Version, Waiting
from eventstore.errors import LogHeld, LogRefused, LogUnavailable
from eventstore.ingest import Intake, Taken
from eventstore.rows import STREAM_END
from eventstore.space import DiskSpace

T = TypeVar("T")

logger = logging.getLogger(__name__)

ROWS_PER_STATEMENT = 64
CHECKPOINT_BYTES = 8 << 20
"""The write-ahead log goes back into the database after so much content or so many commits, or when idle."""
LARGE_PAGES = 4_096
"""Pages (16 MiB) in the write-ahead log after which it is begun anew, should readers have to be waited for."""
READERS_MS = 500
"""How long they are waited for. One that reads on is waited for again when there is twice as much."""
GATHER_S = 0.0002
BUSY_APPENDS = 4
"""After a commit of so many appends the next one waits a moment for company: a fuller transaction costs the event loop
fewer wake-ups and the disk fewer pages. Alone, an append never waits."""
IDLE_S = 0.5
PATIENCE_MS, HELD_MS = 5_000, 250
"""How long a transaction waits for a lock of another process, the first time and while that goes on."""
HELD = "another process holds a lock on the log"
FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)
"""No room on the disk, for the files and for their shared index: what was to be written is rolled back, no more."""

Committed = Callable[[list[Waiting], int], None]
"""Called on the loop with the appends that have their outcome, and the head."""
Failed = Callable[[Exception], None]
"""Called on the loop, once: the log can write no more."""


class _Held(Exception):
    """What was to be written includes new work, which is not kept waiting for another process."""


class Writer(Thread):
    """Owns the writing connection from `start` to its end; `stop` ends it after what was submitted before. `held`:
    another process has a lock on the file for so long that new work is refused."""

    appends_per_commit = 4_096
    commits_per_checkpoint = 1_000
    large_pages = LARGE_PAGES
    intake = Intake
    """The class that takes pulled events in; tests prove its worth with broken ones."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        tail: Tail,
        now_us: Callable[[], int],
        loop: AbstractEventLoop,
        committed: Committed,
        failed: Failed,
        space: DiskSpace,
    ) -> None:
        super().__init__(name="log-writer", daemon=True)
        self._connection, self._tail, self._now_us = connection, tail, now_us
        self._loop, self._committed, self._failed, self._space = loop, committed, failed, space
        self._queue: SimpleQueue[Waiting | None] = SimpleQueue()
        self._later: deque[Waiting | None] = deque()
        """What was taken from the queue while another process held a lock, and goes before it."""
        self.held = self._told = False
        self._failure: Exception | None = None
        self._stopping = self._busy = False
        self._bytes = self._commits = 0
        self._large = self.large_pages
        self.submit = self._queue.put

    def stop(self) -> None:
        """End after everything that was submitted so far."""
        self._queue.put(None)

    def run(self) -> None:
        """The thread's life: take, commit, acknowledge; between batches checkpoint, and look at the disk."""
        while not self._stopping:
            batch = self._take()
            self._busy = len(batch) >= BUSY_APPENDS
            if batch:
                self._handle(batch)
            if self._failure is None and self._checkpoint_is_due(idle=not batch):
                self._guard(self._checkpoint)
            if self.held and not batch and self._failure is None:
                self._guard(self._try_the_lock)
            if self._failure is None:
                self._guard(self._space.look)
        self._space.close()  # before the connection, whose last checkpoint may need the room
        self._connection.close()

    def _take(self) -> list[Waiting]:
        """Wait a moment for an append and take all that are there; empty when idle or told to stop."""
        taken: list[Waiting] = []
        try:
            item = self._later.popleft() if self._later else self._queue.get(timeout=IDLE_S)
            if self._busy:
                time.sleep(GATHER_S)
            while item is not None:
                taken.append(item)
                if len(taken) == self.appends_per_commit:
                    return taken
                item = self._later.popleft() if self._later else self._queue.get_nowait()
            self._stopping = True
        except Empty:
            pass
        return taken

    def _handle(self, waiting: list[Waiting]) -> None:
        if self._failure is None:
            self._guard(lambda: self._commit([append for append in waiting if append.besides is None]))
        for append in waiting:
            if append.pulled and self._failure is None:
                self._guard(partial(self._ingest, append))
            elif append.besides is not None and self._failure is None:
                self._guard(partial(self._commit_alone, append, append.besides))
        if self._failure is not None:
            for append in waiting:
                append.outcome = LogUnavailable(f"the log cannot be written: {self._failure}")
        if self._told:
            waiting, self._told = [append for append in waiting if not isinstance(append.outcome, LogHeld)], False
        self._loop.call_soon_threadsafe(self._committed, waiting, self._tail.position)

    def _guard(self, step: Callable[[], None]) -> None:
        """Run a step; its failure is the log's end, told once. After a failed fsync SQLite itself would go on."""
        try:
            step()
        except Exception as error:  # noqa: BLE001  # nobody is above this thread: every failure must reach on_fatal
            self._failure = error
            self._loop.call_soon_threadsafe(self._failed, error)

    def _commit(self, waiting: list[Waiting]) -> None:
        try:
            batch = self._written(waiting)
        except _Held:
            waiting = self._without_new(waiting)
            batch = self._written(waiting)
        self._tail.adopt(batch)
        self._commits += 1
        self._bytes += sum(append.size for append in waiting)

    def _written(self, waiting: list[Waiting]) -> Batch:
        new = any(append.new for append in waiting)
        batch = self._stage(waiting, trusting=True)
        try:
            self._write(batch, new)
        except sqlite3.IntegrityError:
            # A stream taken for new was not: stage again, looking each one up, so that only that append is refused.
            self._connection.rollback()
            batch = self._stage(waiting, trusting=False)
            self._write(batch, new)
        return batch

    def _without_new(self, waiting: Iterable[Waiting]) -> list[Waiting]:
        """Refuse the new work among these, at once. Returns the rest."""
        rest: list[Waiting] = []
        refused: list[Waiting] = []
        for append in waiting:
            (refused if append.new else rest).append(append)
        for append in refused:
            append.outcome = LogHeld(HELD)
        if refused:
            self._told = True
            self._loop.call_soon_threadsafe(self._committed, refused, self._tail.position)
        return rest

    def _stage(self, waiting: list[Waiting], *, trusting: bool) -> Batch:
        batch = Batch(self._tail, self._now_us(), self._find_stream, trusting=trusting)
        for append in waiting:
            batch.add(append)
        return batch

    def _find_stream(self, name: str) -> Version:
        found: Version | None = self._connection.execute(STREAM_END, (name,)).fetchone()
        return found or (0, 0)

    def _ingest(self, append: Waiting) -> None:
        """Take chained events in, beside what is appended."""

        def offered() -> tuple[Intake, Taken]:
            intake = self.intake(self._connection, self._tail)
            return intake, intake.take(append.pulled)

        intake, append.outcome = self._transact(offered)
        intake.settle()
        self._commits += 1
        self._bytes += append.size

    def _commit_alone(self, append: Waiting, besides: Besides) -> None:
        """An append and what belongs to it, in a transaction of its own."""

        def written() -> Batch:
            batch = self._stage([append], trusting=False)
            self._insert(batch)
            besides(self._connection, batch.position)
            return batch

        try:
            self._tail.adopt(self._transact(written))
        except sqlite3.IntegrityError as error:
            self._connection.rollback()
            append.outcome = LogRefused(f"the database refuses it: {error}")
        self._commits += 1

    def _write(self, batch: Batch, new: bool) -> None:
        self._transact(lambda: self._insert(batch), new)

    def _transact(self, insert: Callable[[], T], new: bool = False) -> T:
        """One transaction, tried again where that helps. While another process holds a lock, what runs already waits as
        long as it takes; `new` work does not, and what comes meanwhile is refused. Raises `_Held`."""
        while True:
            try:
                done = insert()
                if self.held and self._connection.in_transaction:
                    self._hold(False)
                self._connection.commit()
                return done
            except sqlite3.OperationalError as error:
                busy = _is_busy(error)
                if not busy and not (error.sqlite_errorcode in FULL and self._space.give_up()):
                    raise
                self._connection.rollback()
                if busy:
                    self._hold(True)
                    self._refuse_queued()
                    if new:
                        raise _Held from error

    def _hold(self, held: bool) -> None:
        """Another process holds a lock for long, or has let go."""
        if held == self.held:
            return
        self.held = held
        self._connection.execute(f"PRAGMA busy_timeout = {HELD_MS if held else PATIENCE_MS}")
        if held:
            logger.error("%s: new work is refused until it lets go", HELD)
        else:
            logger.warning("%s no more", HELD)

    def _refuse_queued(self) -> None:
        """New work that was let in before anybody knew. The rest keeps its place."""
        try:
            while (item := self._queue.get_nowait()) is not None:
                self._later += self._without_new([item])
            self._later.append(None)
        except Empty:
            pass

    def _try_the_lock(self) -> None:
        """While nothing is to be written: is it gone?"""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if not _is_busy(error):
                raise
        else:
            self._connection.rollback()
            self._hold(False)

    def _insert(self, batch: Batch) -> None:
        self._insert_rows("types", batch.type_rows, 2)
        self._insert_rows("streams", batch.stream_rows, 2)
        self._insert_rows("blobs", batch.blob_rows, 3)
        self._insert_rows("frames", batch.frames_rows, 8)
        self._insert_rows("ledger", batch.ledger_rows, 10)

    def _insert_rows(self, table: str, parameters: list[object], columns: int) -> None:
        size = columns * ROWS_PER_STATEMENT
        for start in range(0, len(parameters), size):
            chunk = parameters[start : start + size]
            self._connection.execute(_insert_statement(table, columns, len(chunk) // columns), chunk)

    def _checkpoint_is_due(self, *, idle: bool) -> bool:
        if self._commits == 0:
            return False
        return idle or self._commits >= self.commits_per_checkpoint or self._bytes >= CHECKPOINT_BYTES

    def _checkpoint(self) -> None:
        """On a full disk it is left for later: the write-ahead log keeps what does not fit into the database."""
        try:
            _, pages, _ = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if pages >= self._large and not self.held:
                self._begin_anew(pages)
        except sqlite3.OperationalError as error:
            if _is_busy(error):
                return
            if error.sqlite_errorcode not in FULL:
                raise
            self._space.give_up()
        else:
            self._commits = self._bytes = 0

    def _begin_anew(self, pages: int) -> None:
        """Let the next commit begin at the front of the write-ahead log. By itself it does only while nobody reads, and
        of readers that come one after the other some always do: here those of this moment are waited for, and no new
        ones come."""
        self._connection.execute(f"PRAGMA busy_timeout = {READERS_MS}")
        try:
            busy, _, _ = self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {PATIENCE_MS}")
        self._large = 2 * pages if busy else self.large_pages


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


@cache
def _insert_statement(table: str, columns: int, rows: int) -> str:
    """`INSERT INTO table VALUES (?,…),(?,…)…` for so many rows; SQLite keeps each prepared."""
    verb = "INSERT OR IGNORE" if table == "blobs" else "INSERT"
    row = "(" + ",".join("?" * columns) + ")"
    return f"{verb} INTO {table} VALUES {','.join([row] * rows)}"
