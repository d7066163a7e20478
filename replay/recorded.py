"""One request as the log has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eventstore.catalogue.request import TERMINAL
from eventstore.envelope import RecordedEvent, RecordedFrames
from eventstore.reader import Reader
from gateway.exchange.copied import unpack
from gateway.exchange.ids import stream_of
from gateway.exchange.render import NotRenderable, Rendered, render_again
from gateway.exchange.runs import GENERATION_ENDS
from gateway.exchange.shared import copy_of, render_shared, source_of
from replay.output import printable

ENVELOPE = frozenset({"type", "schema", "stream", "version", "origin", "oseq", "time", "request_id"})


class ReplayError(Exception):
    """What a command cannot do; the message is for the person who asked."""


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request's events in order, and its frame rows by the position of their `generation_started`; `source` is the
    request whose answer it was given, if it has none of its own."""

    events: Sequence[RecordedEvent]
    frames: Mapping[int, Sequence[RecordedFrames]]
    source: RecordedRequest | None = None

    def rendered(self) -> Rendered:
        """The answer again. Raises `NotRenderable` where it cannot be, `LogCorrupt` where a row is damaged."""
        if self.source is None:
            return render_again(self.events, self.frames)
        if not self.source.events:
            raise NotRenderable("the request whose answer it was given is gone")
        return render_shared(self.events, self.source.events, self.source.frames)

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
        if event.type == "generation_started":
            end = next((later.position for later in events[index:] if _ends(later, event.body["attempt"])), None)
            found[event.position] = reader.read_frames(event.position, reader.head() if end is None else end)
    return found


def _ends(event: RecordedEvent, attempt: int) -> bool:
    return event.type in GENERATION_ENDS and bool(event.body["attempt"] == attempt)


def own_fields(event: RecordedEvent) -> dict[str, Any]:
    """What the event says beyond its envelope."""
    return {name: value for name, value in event.body.items() if name not in ENVELOPE}
