"""One cursor of the relay: a part of the log, into one stream, in order, once.

A lane keeps no cursor of its own: what the stream holds as the newest message of each origin *is* the cursor. It is
read on every new connection, whenever the fence fails, and every `check_s` seconds; so a server that was wiped or
restored from an old copy gets what it lacks, and a batch whose answer was lost is neither lost nor sent twice. What
it lost before its newest message only reading it back can tell: see `relay_audit`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any, ClassVar, Literal

from eventstore.head import Head
from eventstore.incarnations import Incarnations
from eventstore.jetstream import JetStream, Message, Stored, StreamFull, WrongLastSequence
from eventstore.relay_audit import Audit, Comparison, Gapless
from eventstore.relay_messages import (
    NOTHING,
    SUBJECTS,
    FrameMessages,
    Key,
    LedgerMessages,
    Outgoing,
    Rows,
    fitted,
    of_origin,
)

logger = logging.getLogger(__name__)

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


@dataclass(slots=True)
class Mark:
    """The newest message of one origin in the stream: its place among the origin's, and its sequence there."""

    key: Key = NOTHING
    sequence: int = 0


class Lane(ABC):
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
        self._audit = Audit(self.stream, {}, self._key, Gapless(()))
        self._check_at = 0.0
        self.check_s = CHECK_S
        self.position = 0
        self.state: State = "down"
        self.error: str | None = None

    async def run(self, js: JetStream) -> None:
        """Relay for ever over this connection. Raises `Fenced`, `NoAnswer`, `Refused`, `LogError`."""
        aligned = False
        while True:
            try:
                if not aligned:
                    await self._ensure(js)
                    await self._align(js)
                    aligned = True
                await self._turn(js)
            except WrongLastSequence:
                aligned = False
                await asyncio.sleep(CONTENDED_S)
            except StreamFull as e:
                self._become("full", str(e))
                await asyncio.sleep(FULL_RETRY_S)

    def lost(self, error: str | None) -> None:
        """The connection is gone."""
        self._become("down", error)

    async def _turn(self, js: JetStream) -> None:
        """Look whether all is well, publish what is new, read a page back; then wait for more to do."""
        if time.monotonic() >= self._check_at:
            await self._check(js)
            self._check_at = time.monotonic() + self.check_s
        await self._pump(js)
        await self._read_back(js)
        wait_s = min(self._check_at - time.monotonic(), self._audit.wait_s)
        await self._head.past(self.position, max(0.0, wait_s))

    async def _read_back(self, js: JetStream) -> None:
        """The next page of the audit. Where something is missing, what is there goes too: only all of it can be
        published in order."""
        if self._audit.wait_s:
            return
        if self._audit.over:
            self._audit = await self._new_audit(js)
        if not await self._audit.step(js):
            await self._drop(js)
            await self._align(js)

    async def _pump(self, js: JetStream) -> None:
        """Publish up to the head. What a failure leaves half done is left out, by its mark, the next time."""
        while self.position < (until := self._head.position):
            outgoing, reached = self._source.read(self.position, until)
            for origin, run in groupby(outgoing, attrgetter("origin")):
                await self._publish(js, origin, list(run))
            self.position = reached
            self._become("catching_up" if reached < self._head.position else "live", None)
        if self.state != "live":
            self._become("live", None)

    async def _publish(self, js: JetStream, origin: str, outgoing: Sequence[Outgoing]) -> None:
        mark = self._marks.get(origin)
        if mark is None:
            mark = self._marks[origin] = self._mark(await js.last(self.stream, of_origin(origin)))
        await self._cover(js, outgoing)
        limit = js.max_message_bytes
        for batch in _batches([(o, fitted(o.message, limit)) for o in outgoing if o.key > mark.key]):
            sequence = await js.publish_batch([message for _, message in batch], of_origin(origin), mark.sequence)
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
        found = await js.last(self.stream, of_origin(origin))
        return (found.sequence if found else 0) != self._marks[origin].sequence

    async def _align(self, js: JetStream) -> None:
        """Take position and marks from what the stream holds."""
        self._created = (await js.state(self.stream)).created
        self._marks.clear()
        position = await self._start(js)
        if position is None:
            await self._drop(js)
            self._marks.clear()
            position = await self._start(js)
        self.position = position or 0
        self._audit = await self._new_audit(js)
        self._check_at = time.monotonic() + self.check_s
        self._become("catching_up", None)

    async def _new_audit(self, js: JetStream) -> Audit:
        marks = ((origin, self._marks.get(origin)) for origin in self._audited())
        newest = {origin: mark.sequence for origin, mark in marks if mark and mark.sequence}
        return Audit(self.stream, newest, self._key, await self._comparison(js))

    @abstractmethod
    async def _start(self, js: JetStream) -> int | None:
        """Take the marks from the stream. Returns the position after which to go on; None: what the stream holds
        cannot be read, lacks something, or is not what this log has there."""

    async def _held(self, js: JetStream) -> Counter[str]:
        """How many messages of each origin the stream holds, as far as its index knows."""
        held: Counter[str] = Counter()
        for subject, count in (await js.subjects(self.stream, f"{SUBJECTS}.>")).items():
            held[subject.rpartition(".")[2]] += count
        return held

    @abstractmethod
    def _audited(self) -> Collection[str]:
        """The origins that can be published anew."""

    @abstractmethod
    async def _comparison(self, js: JetStream) -> Comparison:
        """What a page of the stream is compared with."""

    async def _drop(self, js: JetStream) -> None:
        """Take out of the stream all that can be published anew. Where that is all there is, without a filter: what
        the server cannot read any more passes through every filter, and would stay."""
        logger.warning("%s does not hold what this log has: all of that is published anew", self.stream)
        audited = set(self._audited())
        origins = (await self._held(js)).keys()
        for subject in map(of_origin, origins & audited) if origins - audited else (None,):
            await js.purge(self.stream, subject)

    @abstractmethod
    def _key(self, headers: Mapping[str, str]) -> Key:
        """The place that a message has among its origin's."""

    def _mark(self, stored: Stored | None) -> Mark:
        return Mark(self._key(stored.headers), stored.sequence) if stored else Mark()

    def _become(self, state: State, error: str | None) -> None:
        self.state, self.error = state, error
        self._changed()


def _batches(messages: Iterable[tuple[Outgoing, Message]]) -> Iterator[list[tuple[Outgoing, Message]]]:
    """In order, at most `BATCH_MESSAGES` and about `BATCH_BYTES` each."""
    batch: list[tuple[Outgoing, Message]] = []
    size = 0
    for item in messages:
        more = item[1].size
        if batch and (len(batch) == BATCH_MESSAGES or size + more > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += more
    if batch:
        yield batch
