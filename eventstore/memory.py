"""The log in memory: the reference that says what every log does, as short as it can be. Nothing survives it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from hashlib import sha256
from itertools import count, islice

from eventstore.chain import Chain
from eventstore.envelope import (
    ANY_VERSION,
    Appended,
    NewEvent,
    NewFrames,
    Recorded,
    RecordedEvent,
    RecordedFrames,
    StreamWrite,
)
from eventstore.errors import LogClosed, WrongExpectedVersion
from eventstore.head import Head


class MemoryLog:
    """`eventstore.log.Log` in a list. Its clock starts at 2026-11-21T00:00:00Z and ticks a millisecond an append,
    unless `now_us` is given. `on_commit` as in `SQLiteLog`."""

    def __init__(self, origin: str = "n0000000000000000", now_us: Callable[[], int] | None = None) -> None:
        self._chain = Chain(origin)
        self._now_us = now_us or count(1_795_219_200_000_000, 1_000).__next__
        self._rows: list[Recorded] = []
        self._streams: dict[str, list[RecordedEvent]] = {}
        self._blobs: dict[bytes, bytes] = {}
        self._head = Head(0)
        self._closed = False

    @property
    def origin(self) -> str:
        """As `Log.origin`."""
        return self._chain.origin

    @property
    def full(self) -> bool:
        """As `Log.full`: never."""
        return False

    @property
    def held(self) -> bool:
        """As `Log.held`: never."""
        return False

    @property
    def dropped(self) -> int:
        """As `Log.dropped`: nothing is."""
        return 0

    @property
    def on_commit(self) -> Callable[[int], None] | None:
        """Called with the head after each append."""
        return self._head.on_commit

    @on_commit.setter
    def on_commit(self, hook: Callable[[int], None] | None) -> None:
        self._head.on_commit = hook

    def append(
        self,
        *writes: StreamWrite,
        frames: Sequence[NewFrames] = (),
        blobs: Sequence[bytes] = (),
        admit: bool = False,
    ) -> asyncio.Future[Appended]:
        """As `Log.append`; done at once, and so never busy."""
        if self._closed:
            raise LogClosed("the log is closed")
        future: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        try:
            self._check(writes)
        except WrongExpectedVersion as refused:
            future.set_exception(refused)
        else:
            future.set_result(self._write(writes, frames, blobs))
            self._head.advance(len(self._rows))
        return future

    def _check(self, writes: Sequence[StreamWrite]) -> None:
        ahead = {write.stream: len(self._streams.get(write.stream, ())) for write in writes}
        for write in writes:
            actual = ahead[write.stream]
            if write.expected not in (actual, ANY_VERSION):
                raise WrongExpectedVersion(write.stream, write.expected, actual)
            ahead[write.stream] += len(write.events)

    def _write(self, writes: Sequence[StreamWrite], frames: Sequence[NewFrames], blobs: Sequence[bytes]) -> Appended:
        now = self._now_us()
        self._blobs.update((sha256(blob).digest(), blob) for blob in blobs)
        for row in frames:
            self._add_frames(row)
        before = len(self._rows)
        for write in writes:
            for event in write.events:
                self._add_event(write.stream, event, now)
        return Appended(before + 1 if len(self._rows) > before else 0, len(self._rows), self._chain.at)

    def _add_event(self, name: str, event: NewEvent, now: int) -> None:
        stream = self._streams.setdefault(name, [])
        position, version, chain = len(self._rows) + 1, len(stream) + 1, self._chain
        data = chain.link(event, name, version, now)
        recorded = RecordedEvent(
            position, chain.origin, chain.oseq, name, version, event.type, chain.at, 0, data, chain.digest
        )
        stream.append(recorded)
        self._rows.append(recorded)

    def _add_frames(self, row: NewFrames) -> None:
        run, position = row.run, len(self._rows) + 1
        back = position - run.last_position if run.last_position else 0
        run.last_position = position
        self._rows.append(
            RecordedFrames(
                position, run.generation, back, row.frame, row.count, row.offset_us, row.codec, row.bytes
            )
        )  # fmt: skip

    async def read(self, after: int, limit: int, *, until: int | None = None, frames: bool = True) -> list[Recorded]:
        """As `Log.read`."""
        chosen = (row for row in self._rows[after:until] if frames or isinstance(row, RecordedEvent))
        return list(islice(chosen, limit))

    async def read_stream(self, stream: str, after: int = 0) -> list[RecordedEvent]:
        """As `Log.read_stream`."""
        return self._streams.get(stream, [])[after:]

    async def read_frames(self, generation: int, until: int, after: int = 0) -> list[RecordedFrames]:
        """As `Log.read_frames`."""
        rows = (row for row in self._rows[after:until] if isinstance(row, RecordedFrames))
        return [row for row in rows if row.generation == generation]

    async def read_blob(self, digest: bytes) -> bytes:
        """As `Log.read_blob`."""
        return self._blobs[digest]

    async def head(self) -> int:
        """As `Log.head`."""
        return len(self._rows)

    def follow(self, after: int) -> AsyncIterator[int]:
        """As `Log.follow`."""
        return self._head.follow(after)

    async def close(self) -> None:
        """Accept nothing more; every follower ends."""
        self._closed = True
        self._head.close()
