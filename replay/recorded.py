"""One request as the log has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eventstore.catalogue.request import TERMINAL
from eventstore.chain import Chains, well_typed
from eventstore.envelope import RecordedEvent, RecordedFrames
from eventstore.errors import LogCorrupt
from eventstore.frames import FrameReader
from eventstore.reader import Reader
from gateway.exchange.copied import unpack
from gateway.exchange.ids import stream_of
from gateway.exchange.render import NotRenderable, Rendered, render_again
from gateway.exchange.runs import GENERATION_ENDS, check_bound
from gateway.exchange.shared import copy_of, render_shared, source_of
from replay.output import printable

STARTED = "generation_started"
BEFORE = 4_096
"""Positions before the first event to be shown in which the one that it follows is looked for."""
ENVELOPE = frozenset({"type", "schema", "stream", "version", "origin", "oseq", "time", "request_id"})


class ReplayError(Exception):
    """What a command cannot do; the message is for the person who asked."""


class SourceGone(NotRenderable):
    """The request whose answer this one was given is in the log no more."""


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request's events in order, and its frame rows by the position of their `generation_started`; `source` is the
    request whose answer it was given, if it has none of its own."""

    events: Sequence[RecordedEvent]
    frames: Mapping[int, Sequence[RecordedFrames]]
    source: RecordedRequest | None = None

    def rendered(self) -> Rendered:
        """The answer again. Raises `NotRenderable` where it cannot be (`SourceGone`), `LogCorrupt` where a row is
        damaged."""
        if self.source is None:
            return render_again(self.events, self.frames)
        if not self.source.events:
            raise SourceGone("the request whose answer it was given is gone")
        return render_shared(self.events, self.source.events, self.source.frames)

    def prove(self) -> None:
        """Raises `LogCorrupt` where frames are not those that the end of their generation binds."""
        for index, event in enumerate(self.events):
            if (end := _end_of(self.events, index)) is not None:
                frames = FrameReader()
                for row in self.frames.get(event.position, ()):
                    frames.skip(row)
                check_bound(frames, end)

    @property
    def state(self) -> str:
        """`completed`, `failed`, `cancelled`, `interrupted`, `rejected`, or `open` without a terminal event."""
        ends = [event.type.removeprefix("request_") for event in self.events if event.type in TERMINAL]
        return ends[-1] if ends else "open"


def read_request(reader: Reader, request_id: str) -> RecordedRequest:
    """Raises `ReplayError` where the log has no such request."""
    try:
        events = reader.read_stream(stream_of(request_id))
    except UnicodeEncodeError:  # an argument of bytes that are no UTF-8
        events = []
    if not events:
        raise ReplayError(f"{reader.path} has no request {printable(request_id)}")
    return recorded_request(reader, events)


def recorded_request(reader: Reader, events: Sequence[RecordedEvent]) -> RecordedRequest:
    """The request of these events."""
    source, copy = source_of(events), copy_of(events)
    if source is None:
        return RecordedRequest(events, frames_of(reader, events))
    if copy is not None:
        return RecordedRequest(events, {}, _copied(reader, copy))
    theirs = reader.read_stream(stream_of(source))
    return RecordedRequest(events, {}, RecordedRequest(theirs, frames_of(reader, theirs)))


def _copied(reader: Reader, copy: bytes) -> RecordedRequest:
    """The request of another gateway, as far as its answer was copied; without events where that is gone."""
    try:
        copied = unpack(reader.read_blob(copy))
    except (KeyError, NotRenderable):
        return RecordedRequest((), {})
    return RecordedRequest(copied.events, copied.frames)


def frames_of(reader: Reader, events: Sequence[RecordedEvent]) -> dict[int, list[RecordedFrames]]:
    """The rows of each generation among one request's events: up to the event that ends it, or all there are."""
    found: dict[int, list[RecordedFrames]] = {}
    for index, event in enumerate(events):
        if event.type == STARTED:
            end = _end_of(events, index)
            found[event.position] = reader.read_frames(event.position, reader.head() if end is None else end.position)
    return found


def _end_of(events: Sequence[RecordedEvent], index: int) -> RecordedEvent | None:
    """The event that ends the generation that begins with this one, if it does and has ended."""
    if events[index].type != STARTED:
        return None
    attempt = events[index].body["attempt"]
    return next((e for e in events[index:] if e.type in GENERATION_ENDS and e.body["attempt"] == attempt), None)


def sound_events(reader: Reader, after: int, until: int) -> Iterator[RecordedEvent]:
    """The ledger's events behind a position and up to another, each compared with itself and with the one before it in
    its chain, if that is among them or not far before. Raises `LogCorrupt`."""
    chains = _chains(reader, after)
    for event in reader.events(after, until=until):
        if what := chains.unsound(event):
            raise LogCorrupt(event.position, what)
        yield event


def _chains(reader: Reader, until: int) -> Chains:
    """Where the chains are at a position, of those that have events not far before it; as far as these can be read."""
    found = Chains()
    try:
        for event in reader.events(max(0, until - BEFORE), until=until):
            if well_typed(event):
                found.learn(event)
    except LogCorrupt:
        return Chains()
    return found


def own_fields(event: RecordedEvent) -> dict[str, Any]:
    """What the event says beyond its envelope."""
    return {name: value for name, value in event.body.items() if name not in ENVELOPE}
