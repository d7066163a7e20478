"""The reading side of the durable log: live rows on the event loop, and what is archived in a thread of its own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from eventstore import rows
from eventstore.blobs import checked_blob
from eventstore.envelope import Recorded, RecordedEvent, RecordedFrames
from eventstore.errors import LogClosed
from eventstore.head import Head
from eventstore.reader import Reader

T = TypeVar("T")


class Reads:
    """What `SQLiteLog` answers from `path` (`events.db`) and the archive beside it, as one log up to `head`. `live`
    reads the file; `sealed` is the position up to which rows have moved into the archive."""

    def __init__(self, path: Path, live: aiosqlite.Connection, head: Head, sealed: int) -> None:
        self._path, self._live, self._head, self._sealed = path, live, head, sealed
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._history: Reader | None = None
        """Reads the archive and the live rows as one, once somebody asks for what is archived."""
        self._history_thread = ThreadPoolExecutor(1, thread_name_prefix="log-history")

    async def read(self, after: int, limit: int, *, until: int | None = None, frames: bool = True) -> list[Recorded]:
        """As `Log.read`; a large `limit` is read in pages, each a transaction of its own."""
        found: list[Recorded] = []
        until = self._head.position if until is None else min(until, self._head.position)
        sql = rows.BOTH_LANES if frames else rows.LEDGER
        while len(found) < limit and after < until:
            size = min(rows.PAGE, limit - len(found))
            page = await self._fetch(sql, {"after": after, "until": until, "limit": size})
            if after < self._sealed:  # asked afterwards: rows leave the database while it is read
                past = partial(Reader.read, after=after, limit=limit - len(found), until=until, frames=frames)
                return found + await self._in_archive(past)
            found += map(rows.recorded, page)
            if len(page) < size:
                break
            after = rows.further(after, page[-1][0])
        return found

    async def read_stream(self, stream: str, after: int = 0) -> list[RecordedEvent]:
        """As `Log.read_stream`; each event is compared with its digest."""
        found: list[RecordedEvent] = []
        while not self._sealed:
            page = await self._fetch(rows.PROVEN_STREAM, {"stream": stream, "after": after, "limit": rows.PAGE})
            if self._sealed:  # asked afterwards: this page may lack what has left the database before it was read
                break
            found += rows.proven(page, after)
            if len(page) < rows.PAGE:
                return found
            after = rows.further(after, found[-1].version)
        return found + await self._in_archive(partial(Reader.read_stream, stream=stream, after=after))

    async def read_frames(self, generation: int, until: int, after: int = 0) -> list[RecordedFrames]:
        """As `Log.read_frames`."""
        page = await self._fetch(rows.RUN, {"generation": generation, "until": until, "after": after})
        if generation <= self._sealed:
            return await self._in_archive(partial(Reader.read_frames, generation=generation, until=until, after=after))
        return [RecordedFrames(*row) for row in page]

    async def read_blob(self, digest: bytes) -> bytes:
        """As `Log.read_blob`."""
        page = await self._fetch(rows.BLOB, {"digest": digest})
        return checked_blob(digest, page[0] if page else None)

    async def head(self) -> int:
        """As `Log.head`."""
        return self._head.position

    def follow(self, after: int) -> AsyncIterator[int]:
        """As `Log.follow`; ends when the log is closed."""
        return self._head.follow(after)

    async def _close_reads(self) -> None:
        """Let go of the files."""
        await self._loop.run_in_executor(self._history_thread, self._close_history)
        self._history_thread.shutdown()
        await self._live.close()

    def _close_history(self) -> None:
        if self._history is not None:
            self._history.close()

    async def _in_archive(self, work: Callable[[Reader], T]) -> T:
        """What reaches back into the archive is read in a thread of its own, one after the other: of those that the
        loop has for all, who waits here would leave none to look up the address of an upstream."""

        def worked() -> T:
            if self._closed:
                raise LogClosed("the log is closed")
            self._history = self._history or Reader(self._path, proving=True)
            return work(self._history)

        if self._closed:
            raise LogClosed("the log is closed")
        return await self._loop.run_in_executor(self._history_thread, worked)

    async def _fetch(self, sql: str, parameters: dict[str, Any]) -> list[Any]:
        if self._closed:
            raise LogClosed("the log is closed")
        try:
            return list(await self._live.execute_fetchall(sql, parameters))
        except sqlite3.Error as error:
            raise rows.failure(error) from error
