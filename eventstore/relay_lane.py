"""One cursor of the relay: a part of the log, into one stream, in order, once.

A lane keeps no cursor of its own: what the stream holds as the newest message of each origin *is* the cursor. It is
read on every new connection, whenever the fence fails, and every `check_s` seconds; so a server that was wiped or
restored from an old copy gets what it lacks, and a batch whose answer was lost is neither lost nor sent twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any, ClassVar, Literal

from eventstore.incarnations import Incarnations, Span
from eventstore.jetstream import JetStream, Message, Stored, StreamFull, WrongLastSequence
from eventstore.relay_messages import (
    BEYOND,
    DIGEST,
    NOTHING,
    SUBJECTS,
    FrameMessages,
    Key,
    LedgerMessages,
    Outgoing,
    Rows,
    fitted,
    frame_key,
    ledger_key,
)

BATCH_MESSAGES = 500
BATCH_BYTES = 4 << 20
CHECK_S = 10.0
FULL_RETRY_S = 1.0
CONTENDED_S = 0.05
"""Pause after a fence that failed, so that two relays of one log do not chase each other."""

State = Literal["down", "catching_up", "live", "full"]


class Fenced(Exception):
    """The stream holds, in the name of our current origin, an event that this log never recorded: someone else
    writes under our identity. This relay must not publish any more."""


class Head:
    """The position of the log's newest row, as far as we were told; it can be waited for."""

    def __init__(self, value: int) -> None:
        self.value = value
        self._moved = asyncio.Event()

    def advance(self, value: int) -> None:
        """The log has grown to here (an older value changes nothing)."""
        if value > self.value:
            self.value = value
            self._moved.set()
            self._moved = asyncio.Event()

    async def past(self, position: int, timeout_s: float) -> None:
        """Return when the head is past `position`, or after `timeout_s`."""
        moved = self._moved
        if self.value > position:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await moved.wait()
        except TimeoutError:
            pass


@dataclass(slots=True)
class Mark:
    """The newest message of one origin in the stream: its place among the origin's, and its sequence there."""

    key: Key = NOTHING
    sequence: int = 0


class Lane:
    """The part that both lanes share: read, leave out what is there, batch, publish behind a fence."""

    stream: ClassVar[str]
    fixed: ClassVar[Mapping[str, Any]]
    """Settings that the stream must have; kept so."""
    initial: ClassVar[Mapping[str, Any]] = {}
    """Settings that it is made with; whoever runs the server may change them."""

    def __init__(
        self,
        rows: Rows,
        messages: LedgerMessages | FrameMessages,
        incarnations: Incarnations,
        head: Head,
        types: Iterable[str],
        changed: Callable[[], None],
    ) -> None:
        self._rows, self._source, self._incarnations, self._head = rows, messages, incarnations, head
        self._subjects = {f"{SUBJECTS}.{name}.*" for name in types}
        self._changed = changed
        self._marks: dict[str, Mark] = {}
        self._created = ""
        self.check_s = CHECK_S
        self.position = 0
        self.state: State = "down"
        self.error: str | None = None

    async def run(self, js: JetStream) -> None:
        """Relay for ever over this connection. Raises `Fenced`, `NoAnswer`, `Refused`, `LogError`."""
        await self._ensure(js)
        await self._align(js)
        checked = time.monotonic()
        while True:
            try:
                if time.monotonic() - checked >= self.check_s:
                    await self._check(js)
                    checked = time.monotonic()
                await self._pump(js)
                await self._head.past(self.position, checked + self.check_s - time.monotonic())
            except WrongLastSequence:
                await asyncio.sleep(CONTENDED_S)
                await self._align(js)
            except StreamFull as e:
                self._become("full", str(e))
                await asyncio.sleep(FULL_RETRY_S)

    def lost(self, error: str | None) -> None:
        """The connection is gone."""
        self._become("down", error)

    async def _pump(self, js: JetStream) -> None:
        """Publish up to the head. What a failure leaves half done is left out, by its mark, the next time."""
        while self.position < (until := self._head.value):
            outgoing, reached = self._source.read(self.position, until)
            for origin, run in groupby(outgoing, attrgetter("origin")):
                await self._publish(js, origin, list(run))
            self.position = reached
            self._become("catching_up" if reached < self._head.value else "live", None)
        if self.state != "live":
            self._become("live", None)

    async def _publish(self, js: JetStream, origin: str, outgoing: Sequence[Outgoing]) -> None:
        mark = self._marks.get(origin)
        if mark is None:
            mark = self._marks[origin] = self._mark(await js.last(self.stream, _of(origin)))
        await self._cover(js, outgoing)
        limit = js.max_message_bytes
        for batch in _batches([(o, fitted(o.message, limit)) for o in outgoing if o.key > mark.key]):
            sequence = await js.publish_batch([message for _, message in batch], _of(origin), mark.sequence)
            mark.key, mark.sequence = batch[-1][0].key, sequence

    async def _cover(self, js: JetStream, outgoing: Sequence[Outgoing]) -> None:
        """A type that nobody told us of (written by a newer release) gets its place in the stream."""
        names = {o.message.subject.rpartition(".")[0] + ".*" for o in outgoing}
        if not names <= self._subjects:
            self._subjects |= names
            await self._ensure(js)

    async def _ensure(self, js: JetStream) -> None:
        config = {"name": self.stream, "subjects": sorted(self._subjects), **self.fixed}
        await js.ensure_stream(config, self.initial)

    async def _check(self, js: JetStream) -> None:
        """Compare with the stream: is it still the same one, and does it still hold what we put there?"""
        state = await js.state(self.stream)
        newest = max((mark.sequence for mark in self._marks.values()), default=0)
        if state.created != self._created or state.last_sequence < newest or await self._moved(js):
            await self._ensure(js)
            await self._align(js)

    async def _moved(self, js: JetStream) -> bool:
        """Whether the origin that we published last has another newest message than the one we put there."""
        origin = max(self._marks, key=lambda name: self._marks[name].sequence, default=None)
        if origin is None:
            return False
        found = await js.last(self.stream, _of(origin))
        return (found.sequence if found else 0) != self._marks[origin].sequence

    async def _align(self, js: JetStream) -> None:
        """Take position and marks from what the stream holds."""
        self._created = (await js.state(self.stream)).created
        self._marks.clear()
        self.position = await self._start(js)
        self._become("catching_up", None)

    async def _start(self, js: JetStream) -> int:
        raise NotImplementedError

    def _mark(self, stored: Stored | None) -> Mark:
        raise NotImplementedError

    def _become(self, state: State, error: str | None) -> None:
        self.state, self.error = state, error
        self._changed()


class LedgerLane(Lane):
    """Every ledger event, of this and of earlier incarnations, once, in order per origin."""

    stream = "LEDGER"
    fixed: ClassVar[Mapping[str, Any]] = {
        "retention": "limits",
        "storage": "file",
        "discard": "new",  # full means refused; the default would silently drop the oldest
        "max_age": 0,
        "max_msgs_per_subject": -1,
        "allow_atomic": True,
        "allow_direct": True,
    }

    def __init__(
        self,
        rows: Rows,
        incarnations: Incarnations,
        head: Head,
        types: Iterable[str],
        origin: str,
        changed: Callable[[], None],
    ) -> None:
        super().__init__(rows, LedgerMessages(rows), incarnations, head, types, changed)
        self._origin = origin
        self.foreign: list[str] = []
        """Earlier origins of which the stream holds other or more events than this log: left alone."""

    async def _start(self, js: JetStream) -> int:
        self.foreign.clear()
        places = [await self._place(js, span) for span in self._incarnations.spans()]
        incomplete = [place for place in places if place is not None]
        return min(incomplete, default=self._rows.head())

    async def _place(self, js: JetStream, span: Span) -> int | None:
        """The position after which this origin's events are missing in the stream; None if it lacks none."""
        stored = await self._intact(js, span)
        mark = self._marks[span.origin] = self._mark(stored)
        if stored is None:
            return span.first - 1
        found = self._incarnations.find(span.origin, mark.key[0])
        if found is None or found[1].hex() != stored.headers.get(DIGEST):
            return self._unknown(span, mark, found is None)
        return found[0] if mark.key[0] < span.last_oseq else None

    async def _intact(self, js: JetStream, span: Span) -> Stored | None:
        """The origin's newest message, if all before it are there too. A stream with a hole (bit rot) cannot be
        mended in order: the origin is taken out, to be published anew, if this log has all of it."""
        stored = await js.last(self.stream, _of(span.origin))
        if stored is None or span.first_oseq != 1 or ledger_key(stored.headers)[0] > span.last_oseq:
            return stored
        if await js.count(self.stream, _of(span.origin)) >= ledger_key(stored.headers)[0]:
            return stored
        await js.purge(self.stream, _of(span.origin))
        return None

    def _unknown(self, span: Span, mark: Mark, missing: bool) -> int | None:
        """The newest message is not what this log has there."""
        if span.origin == self._origin:
            raise Fenced(f"LEDGER holds event {mark.key[0]} of {span.origin}, which this log never recorded")
        if missing and mark.key[0] < span.first_oseq:
            return span.first - 1  # what lies between is in an archive
        self.foreign.append(span.origin)
        mark.key = BEYOND
        return None

    def _mark(self, stored: Stored | None) -> Mark:
        return Mark(ledger_key(stored.headers), stored.sequence) if stored else Mark()


class FrameLane(Lane):
    """The frames of the last while, one message a frame; the oldest go when the stream is full."""

    stream = "TOKENS"
    fixed: ClassVar[Mapping[str, Any]] = {
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "allow_atomic": True,
        "allow_direct": True,
    }
    max_age_s: ClassVar[int] = 24 * 3600
    initial: ClassVar[Mapping[str, Any]] = {"max_bytes": 256 << 20, "max_age": max_age_s * 1_000_000_000}

    def __init__(
        self,
        rows: Rows,
        messages: FrameMessages,
        incarnations: Incarnations,
        head: Head,
        event_type: str,
        changed: Callable[[], None],
    ) -> None:
        super().__init__(rows, messages, incarnations, head, [event_type], changed)
        self._frames = messages

    async def _start(self, js: JetStream) -> int:
        """Frames go out in order of position, so the newest origin that has a message says how far it went. Where
        none has one, the stream is new, or all of it grew too old: begin with what is young enough to be kept."""
        self._frames.rewind()
        for span in reversed(self._incarnations.spans()):
            if stored := await js.last(self.stream, _of(span.origin)):
                mark = self._marks[span.origin] = self._mark(stored)
                if mark.key[0] > self._rows.head():
                    raise Fenced(f"TOKENS holds a frame at {mark.key[0]} of {span.origin}, past the end of this log")
                return mark.key[0] - 1
        return self._incarnations.position_before((time.time_ns() // 1000) - self.max_age_s * 1_000_000)

    def _mark(self, stored: Stored | None) -> Mark:
        return Mark(frame_key(stored.headers), stored.sequence) if stored else Mark()


def _of(origin: str) -> str:
    """The filter for all messages of one origin."""
    return f"{SUBJECTS}.*.{origin}"


def _batches(messages: Iterable[tuple[Outgoing, Message]]) -> Iterator[list[tuple[Outgoing, Message]]]:
    """In order, at most `BATCH_MESSAGES` and about `BATCH_BYTES` each."""
    batch: list[tuple[Outgoing, Message]] = []
    size = 0
    for item in messages:
        if batch and (len(batch) == BATCH_MESSAGES or size + item[1].size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += item[1].size
    if batch:
        yield batch
