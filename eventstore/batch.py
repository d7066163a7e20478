"""From waiting appends to rows: versions checked, positions given, bytes composed. No I/O but one look-up of a stream.

A batch is staged on a copy of the log's tail. Committed, it is adopted by the tail; refused, it is dropped.
"""

from __future__ import annotations

from asyncio import Future
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from eventstore.chain import PLAIN, Chain
from eventstore.envelope import ANY_VERSION, NEW_STREAM, Appended, NewFrames, Run, StreamWrite
from eventstore.errors import WrongExpectedVersion

STREAMS_KEPT = 65_536
"""How many streams' versions the tail remembers; the least recently written one is looked up again when needed."""

BLOB = bytearray
"""What sqlite3 binds as it is. It asks of every `bytes` first whether somebody wants to adapt it (PEP 246), which takes
longer than to copy it."""

Version = tuple[int, int]
"""A stream's id (0 before it has one) and the version of its last event (0 before it has one)."""
FindStream = Callable[[str], Version]
Besides = Callable[[Any, int], None]


class Waiting:
    """One append on its way: what to write, who waits for it, and what became of it. `pulled` are events that are
    chained already (`ingest`), which get a transaction of their own; so does an append with `besides`, which is called
    in that transaction with the connection and the position of the append's last event. `new` work can be refused."""

    __slots__ = ("besides", "blobs", "frames", "future", "new", "outcome", "pulled", "size", "writes")

    def __init__(
        self,
        writes: Sequence[StreamWrite],
        frames: Sequence[NewFrames],
        blobs: Sequence[bytes],
        future: Future[Any],
        size: int = 0,
        pulled: Sequence[Any] = (),
        besides: Besides | None = None,
        new: bool = False,
    ) -> None:
        self.writes, self.frames, self.blobs, self.future, self.size = writes, frames, blobs, future, size
        self.pulled, self.besides, self.new = pulled, besides, new
        self.outcome: Any = None
        """`Appended`, for pulled events `ingest.Taken`, or a `LogError`."""


@dataclass(slots=True)
class Tail:
    """The end of the log as its one writer knows it: what the next batch goes on from."""

    chain: Chain
    origin_id: int
    position: int = 0
    last_stream_id: int = 0
    types: dict[str, int] = field(default_factory=dict)
    streams: OrderedDict[str, Version] = field(default_factory=OrderedDict)

    def adopt(self, batch: Batch) -> None:
        """The batch is durable: go on from its end."""
        self.chain, self.position, self.last_stream_id = batch.chain, batch.position, batch.last_stream_id
        for run, position in batch.runs.items():
            run.last_position = position
        self.types.update(batch.new_types)
        streams = self.streams
        for name, version in batch.streams.items():
            streams[name] = version
            streams.move_to_end(name)
        while len(streams) > STREAMS_KEPT:
            streams.popitem(last=False)  # a plain dict would look for its first key past all that it ever lost


class Batch:
    """Appends that become one transaction. The lists are parameters of the rows, one after the other, in column order.

    `trusting` takes a NEW_STREAM write's word that its stream does not exist where the tail does not know the stream:
    the database refuses the whole batch if that is wrong, and then it is staged again without trust.
    """

    def __init__(self, tail: Tail, now: int, find: FindStream, *, trusting: bool) -> None:
        self._tail, self._now, self._find, self._trusting = tail, now, find, trusting
        self.chain = tail.chain.copy()
        self.position, self.last_stream_id = tail.position, tail.last_stream_id
        self.streams: dict[str, Version] = {}
        self.runs: dict[Run, int] = {}
        self.new_types: dict[str, int] = {}
        self.ledger_rows: list[object] = []
        self.frames_rows: list[object] = []
        self.stream_rows: list[object] = []
        self.type_rows: list[object] = []
        self.blob_rows: list[object] = []

    def add(self, waiting: Waiting) -> None:
        """Stage one append whole, or refuse it whole; `waiting.outcome` says which."""
        try:
            self._check(waiting.writes)
        except WrongExpectedVersion as refused:
            waiting.outcome = refused
            return
        for blob in waiting.blobs:
            self.blob_rows += (sha256(blob).digest(), PLAIN, blob)
        for frames in waiting.frames:
            self._add_frames(frames)
        before = self.position
        for write in waiting.writes:
            self._add_events(write)
        waiting.outcome = Appended(before + 1 if self.position > before else 0, self.position, self.chain.at)

    def _check(self, writes: Sequence[StreamWrite]) -> None:
        """Raises `WrongExpectedVersion` before anything of the append is staged."""
        ahead: dict[str, int] = {}
        for write in writes:
            actual = ahead[write.stream] if write.stream in ahead else self._version(write)
            if write.expected not in (actual, ANY_VERSION):
                raise WrongExpectedVersion(write.stream, write.expected, actual)
            if len(writes) > 1:
                ahead[write.stream] = actual + len(write.events)

    def _version(self, write: StreamWrite) -> int:
        known = self.streams.get(write.stream) or self._tail.streams.get(write.stream)
        if known is None:
            if self._trusting and write.expected == NEW_STREAM and write.events:
                return 0
            known = self.streams[write.stream] = self._find(write.stream)
        return known[1]

    def _add_frames(self, row: NewFrames) -> None:
        self.position = position = self.position + 1
        run = row.run
        last = self.runs.get(run) or run.last_position
        self.runs[run] = position
        self.frames_rows += (
            position,
            run.generation,
            position - last if last else 0,
            row.frame,
            row.count,
            row.offset_us,
            row.codec,
            BLOB(row.bytes),
        )

    def _add_events(self, write: StreamWrite) -> None:
        name, chain = write.stream, self.chain
        if not write.events:
            return
        stream_id, version = self.streams.get(name) or self._tail.streams.get(name) or (0, 0)
        if not stream_id:
            self.last_stream_id = stream_id = self.last_stream_id + 1
            self.stream_rows += (stream_id, name)
        for event in write.events:
            version += 1
            self.position += 1
            data = chain.link(event, name, version, self._now)
            self.ledger_rows += (
                self.position,
                self._tail.origin_id,
                chain.oseq,
                stream_id,
                version,
                self._type_id(event.type),
                chain.at,
                PLAIN,
                BLOB(data),
                BLOB(chain.digest),
            )
        self.streams[name] = stream_id, version

    def _type_id(self, name: str) -> int:
        known = self._tail.types.get(name) or self.new_types.get(name)
        if known is None:
            known = self.new_types[name] = len(self._tail.types) + len(self.new_types) + 1
            self.type_rows += (known, name)
        return known
