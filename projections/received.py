"""Where the files' names and a request's body come from, for the file projections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eventstore import parts
from eventstore.envelope import RecordedEvent
from projections.events import newest, stamp
from projections.projection import Source


def started_stamp(event: RecordedEvent, state: dict[str, Any]) -> str:
    """The TIMESTAMP of the file that an event's line belongs to: when its node started, kept in `state`."""
    if event.type == "node_started" or "started" not in state:
        state["started"] = stamp(event.at)
    started: str = state["started"]
    return started


def whole_body(received: dict[str, Any], source: Source) -> dict[str, Any] | None:
    """The body of a `request_received`, its blobs joined in; None where retention forbade to keep it.

    Raises `KeyError` or `LogCorrupt` where a blob is missing or damaged.
    """
    body = received.get("body")
    return None if body is None else parts.join(body, source.read_blob)


class ReceivedRequests:
    """The `request_received` of the requests whose events are in a batch: from the batch, else from their streams."""

    def __init__(self, events: Sequence[RecordedEvent], source: Source) -> None:
        self._source = source
        self._seen = {event.stream: event for event in events if event.type == "request_received"}

    def of(self, event: RecordedEvent) -> dict[str, Any]:
        """Empty where the beginning of its stream was dropped. Raises `LookupError` where the event's request was not
        received."""
        received = self._seen.get(event.stream) or self._read(event.stream)
        return newest(received) if received else {}

    def _read(self, stream: str) -> RecordedEvent | None:
        events = self._source.read_stream(stream)
        for event in events:
            if event.type == "request_received":
                self._seen[stream] = event
                return event
        if events and events[0].version > 1:
            return None
        raise LookupError(f"{stream} has no request_received")
