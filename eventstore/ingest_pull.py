"""What a restored log lacks of its node's own past, read back from JetStream.

LEDGER holds every event of every incarnation of this node. Where it has more of an earlier one than the log, the log
was restored from an older copy, and that end is handed on in the stream's order, which is the order in which it was
written. The rows of frames stand in headers in TOKENS (`relay_messages.RowHeader`), as long as it keeps them; they are
handed on only where the event that closes their run binds them by count and digest.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import orjson

from eventstore.envelope import RecordedEvent, RecordedFrames
from eventstore.errors import LogCorrupt
from eventstore.frames import FrameReader
from eventstore.incarnations import Incarnations, Span
from eventstore.ingest import PulledEvent, PulledFrames, parsed
from eventstore.jetstream import JetStream, Refused, Stored
from eventstore.relay_messages import (
    BEYOND,
    DIGEST,
    FRAME,
    SUBJECTS,
    WHOLE,
    RowHeader,
    Rows,
    ledger_key,
    of_origin,
)
from eventstore.verify import RunClosed, RunOf, RunOpened

LEDGER, TOKENS = "LEDGER", "TOKENS"
NODE = 9
"""Letters of an origin that name the node; the rest is the incarnation's."""
PAGE = 1_000
PIECE_EVENTS = 200
PIECE_BYTES = 512 << 10
LARGEST_RUN = 8 << 20
"""Bytes of frames rows that are handed on with one event; a run with more is counted as gone."""
_NO_STREAM = 404

Opening = tuple[str, int]
"""Origin and oseq of the event that opened a run."""


class Past(Rows, Protocol):
    """The log, as the comparison reads it (`reader.Reader`)."""

    def read_stream(self, stream: str, after: int = 0) -> list[RecordedEvent]:
        """As `Log.read_stream`."""


@dataclass(slots=True)
class Outcome:
    """How a comparison went: by origin, why something that LEDGER has was left there; and of how many closed runs the
    frames are gone from JetStream, so that they stay missing."""

    refused: dict[str, str] = field(default_factory=dict)
    gone: int = 0


class Pull:
    """One comparison of a log with what JetStream holds of its node. `own` is the incarnation that runs."""

    def __init__(self, log: Past, incarnations: Incarnations, own: str, run_of: RunOf) -> None:
        self._log, self._own, self._run_of = log, own, run_of
        self._spans = {span.origin: span for span in incarnations.spans()}
        self._openings: dict[Hashable, Opening | None] = {}
        self._rows: dict[Opening, dict[int, PulledFrames]] = {}
        self.outcome = Outcome()

    async def pieces(self, js: JetStream, ends: Mapping[str, Stored]) -> AsyncIterator[list[PulledEvent]]:
        """What the log lacks up to these ends, in the order in which it was written, a piece at a time. Raises
        `JetStreamError`."""
        await self._read_rows(js, ends.keys())
        piece: list[PulledEvent] = []
        size = 0
        async for event in self._events(js, ends):
            if piece and (len(piece) == PIECE_EVENTS or size > PIECE_BYTES):
                yield piece
                piece, size = [], 0
            piece.append(self._with_frames(event))
            size += len(event.data) + sum(len(row.bytes) for row in piece[-1].before)
        if piece:
            piece[-1] = self._with_open_runs(piece[-1])
            yield piece

    async def ends(self, js: JetStream) -> dict[str, Stored]:
        """The newest message of each earlier incarnation of which LEDGER has more than the log. Raises
        `JetStreamError`."""
        try:
            held = {name.rpartition(".")[2] for name in await js.subjects(LEDGER, f"{SUBJECTS}.>")}
        except Refused as error:
            if error.status != _NO_STREAM:
                raise
            return {}
        ends = {}
        for origin in sorted(held):
            if origin[:NODE] != self._own[:NODE] or origin == self._own:
                continue
            end = await js.last(LEDGER, of_origin(origin))
            if end is not None and ledger_key(end.headers)[0] > self._last(origin):
                ends[origin] = end
        return {origin: end for origin, end in ends.items() if self._has_ended(origin, end)}

    def _has_ended(self, origin: str, end: Stored) -> bool:
        """Whether it is over: what still writes under this node's name is another copy of it, and no past of ours."""
        own = self._spans.get(self._own)
        if ledger_key(end.headers) == BEYOND:
            self.outcome.refused[origin] = f"a message of {origin} was written by no relay"
        elif own is not None and _time(end.payload) >= _time(self._event_at(own)):
            self.outcome.refused[origin] = f"{origin} has written since this incarnation began: it is another copy's"
        return origin not in self.outcome.refused

    def _event_at(self, span: Span) -> bytes:
        found = self._log.read(span.first - 1, 1, until=span.first, frames=False)
        return found[0].data if found and isinstance(found[0], RecordedEvent) else b""

    def _last(self, origin: str) -> int:
        span = self._spans.get(origin)
        return span.last_oseq if span else 0

    async def _events(self, js: JetStream, ends: Mapping[str, Stored]) -> AsyncIterator[PulledEvent]:
        sequence = min([await first_past(js, origin, self._last(origin)) for origin in ends])
        until = max(end.sequence for end in ends.values())
        while sequence <= until and (page := await js.read(LEDGER, sequence, PAGE)):
            sequence = page[-1].sequence + 1
            for stored in page:
                origin = stored.subject.rpartition(".")[2]
                if origin in ends and (event := self._wanted(origin, stored)):
                    yield event

    def _wanted(self, origin: str, stored: Stored) -> PulledEvent | None:
        oseq = ledger_key(stored.headers)[0]
        if oseq <= self._last(origin) or origin in self.outcome.refused:
            return None
        if WHOLE in stored.headers:
            self.outcome.refused[origin] = f"event {oseq} of {origin} is too large for JetStream, which has its stub"
            return None
        try:
            digest = bytes.fromhex(stored.headers.get(DIGEST, ""))
        except ValueError:
            digest = b""
        return PulledEvent(origin, oseq, stored.payload, digest)

    async def _read_rows(self, js: JetStream, origins: Iterable[str]) -> None:
        """Every frames row of these origins that TOKENS still has."""
        wanted, sequence = set(origins), 1
        try:
            await js.state(TOKENS)
        except Refused as error:
            if error.status != _NO_STREAM:
                raise
            return
        while page := await js.read(TOKENS, sequence, PAGE):
            sequence = page[-1].sequence + 1
            for stored in page:
                origin = stored.subject.rpartition(".")[2]
                if origin in wanted and (row := pulled_row(origin, stored)):
                    self._rows.setdefault((origin, row.opened), {})[row.frame] = row

    def _with_frames(self, event: PulledEvent) -> PulledEvent:
        """The event, and where it closes a run the rows of the run that the log lacks."""
        row = parsed(event)
        match self._run_of(row) if row is not None else None:
            case RunOpened(key):
                self._openings[key] = event.origin, event.oseq
            case RunClosed(key, count, digest) if row is not None:
                opening, local = self._opened(key, row.stream)
                self._openings[key] = None
                found = self._bound(opening, local, count, digest)
                if found is None:
                    self.outcome.gone += 1
                return PulledEvent(event.origin, event.oseq, event.data, event.digest, before=tuple(found or ()))
        return event

    def _opened(self, key: Hashable, stream: str) -> tuple[Opening | None, list[RecordedFrames]]:
        """Which event opened the run, and the rows of it that the log has."""
        if opening := self._openings.get(key):
            return opening, []
        for event in self._log.read_stream(stream):
            found = self._run_of(event)
            if isinstance(found, RunOpened) and found.key == key:
                return (event.origin, event.oseq), self._log.read_frames(event.position, self._log.head())
        return None, []

    def _bound(
        self, opening: Opening | None, local: list[RecordedFrames], count: int, digest: str
    ) -> list[PulledFrames] | None:
        """The rows that are missing after the local ones; None where those there are do not make the run."""
        reader, found = FrameReader(), []
        try:
            for row in local:
                reader.parts(row)
            rows = self._rows.get(opening, {}) if opening else {}
            while reader.count < count and (next_row := rows.get(reader.count + 1)):
                reader.parts(_recorded(next_row))
                found.append(next_row)
        except LogCorrupt:
            return None
        fits = sum(len(row.bytes) for row in found) <= LARGEST_RUN
        return found if fits and (reader.count, reader.digest) == (count, digest) else None

    def _with_open_runs(self, event: PulledEvent) -> PulledEvent:
        """The last event of all, and after it the frames of runs that nothing closed: their end is ours to write."""
        after = [row for opening in self._openings.values() if opening for row in self._unbound(opening)]
        return PulledEvent(event.origin, event.oseq, event.data, event.digest, event.before, tuple(after))

    def _unbound(self, opening: Opening) -> list[PulledFrames]:
        reader, found = FrameReader(), []
        rows = self._rows.get(opening, {})
        try:
            while row := rows.get(reader.count + 1):
                reader.parts(_recorded(row))
                found.append(row)
        except LogCorrupt:
            pass  # what came before it stands
        return found


async def first_past(js: JetStream, origin: str, oseq: int) -> int:
    """The sequence of an origin's first message in LEDGER that is past this oseq, found by halving."""
    state = await js.state(LEDGER)
    low, high = max(state.first_sequence, 1), state.last_sequence + 1
    while low < high:
        middle = (low + high) // 2
        found = await js.next(LEDGER, of_origin(origin), middle)
        if found is not None and ledger_key(found.headers)[0] <= oseq:
            low = found.sequence + 1
        else:
            high = middle
    return low


def pulled_row(origin: str, stored: Stored) -> PulledFrames | None:
    """The frames row that a message in TOKENS carries, if it does."""
    row, frame = RowHeader.read(stored.headers), stored.headers.get(FRAME, "")
    if row is None or not frame.isdecimal():
        return None
    return PulledFrames(origin, row.opened, int(frame), row.count, row.offset_us, row.codec, row.bytes)


def _recorded(row: PulledFrames) -> RecordedFrames:
    return RecordedFrames(0, 0, 0, row.frame, row.count, row.offset_us, row.codec, row.bytes)


def _time(data: bytes) -> datetime:
    """When an event says that it happened; the beginning of time where it does not say."""
    try:
        return datetime.fromisoformat(orjson.loads(data)["time"])
    except (ValueError, TypeError, KeyError):
        return datetime.min.replace(tzinfo=UTC)
