"""`YYYYMMDD-payloads.jsonl`: the bodies that clients sent, whole; one line a request, in the file of its day (UTC).

A line is `{"timestamp", "request_id", "endpoint", "model", "length", "digest", "payload"}`: `length` and `digest`
(sha256) are of the bytes received; `payload` is the body, credentials replaced, and missing where the request forbade
to keep it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from eventstore.envelope import RecordedEvent
from projections.events import moment, newest
from projections.files import json_line
from projections.projection import Source
from projections.received import whole_body


class Payloads:
    """Received bodies as lines."""

    name: ClassVar[str] = "payloads"
    version: ClassVar[int] = 1
    handles: ClassVar[frozenset[str]] = frozenset({"request_received"})
    patterns: ClassVar[tuple[str, ...]] = ("[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]-payloads.jsonl",)

    def lines(
        self, events: Sequence[RecordedEvent], state: dict[str, Any], source: Source
    ) -> Sequence[tuple[str, bytes]]:
        """One line for each request."""
        return [(f"{moment(event.at):%Y%m%d}-payloads.jsonl", json_line(_line(event, source))) for event in events]


def _line(event: RecordedEvent, source: Source) -> dict[str, Any]:
    received = newest(event)
    line = {
        "timestamp": received["time"],
        "request_id": received["request_id"],
        "endpoint": received["endpoint"],
        "model": received["model"],
        "length": received["body_length"],
        "digest": received["body_digest"],
    }
    payload = whole_body(received, source)
    return line if payload is None else line | {"payload": payload}
