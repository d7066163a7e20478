"""An answer that a request got on another gateway, as it travels: what rendering needs of it, and nothing that was
asked. Pure.

JSON: `{"v": 1, "request_id", "at", "cost_usd", "events": [[type, fields, rows] …]}`; `at` is microseconds since 1970
UTC, `rows` are the frame rows of a `generation_started`: `[frame, count, offset_us, codec, base64]`.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from eventstore.catalogue.request import RequestCompleted
from eventstore.catalogue.values import Usd
from eventstore.envelope import RecordedEvent, RecordedFrames
from eventstore.value import value
from gateway.exchange.render import NotRenderable

VERSION = 1
MALFORMED = (ValueError, KeyError, TypeError, IndexError, ArithmeticError)
"""What reading raises where a copy is not what this version of the gateway packs."""
CARRIED: Mapping[str, tuple[str, ...]] = {
    "request_received": ("request_id", "wire", "renderer", "model", "stream_answer", "include_usage", "options"),
    "generation_started": ("request_id", "attempt", "decoder", "held"),
    "generation_completed": ("usage_source", "usage"),
    "generation_failed": ("attempt", "usage"),
    "retry_attempted": ("continued",),
    "fallback_selected": ("continued",),
    "request_completed": ("request_id", "provider", "model", "status"),
}
"""What is taken along of each event; other types have no part in an answer that may be cached."""


@value
class Copied:
    """An answer, read back. `at`: when its request came in, in microseconds since 1970 UTC; `cost`: what it cost."""

    request_id: str
    at: int
    cost: Usd | None
    events: tuple[RecordedEvent, ...]
    frames: Mapping[int, Sequence[RecordedFrames]]


def pack(events: Sequence[RecordedEvent], frames: Mapping[int, Sequence[RecordedFrames]], at: int) -> bytes:
    """A completed request's answer, from its events and its frame rows by the position of their
    `generation_started`, and when the request came in."""
    first, last = events[0], events[-1]
    return orjson.dumps(
        {
            "v": VERSION,
            "request_id": first.body["request_id"],
            "at": at,
            "cost_usd": last.body["cost_usd"],
            "events": [_event(event, frames.get(event.position, ())) for event in events if event.type in CARRIED],
        }
    )


def _event(event: RecordedEvent, rows: Sequence[RecordedFrames]) -> list[Any]:
    said = {name: event.body[name] for name in CARRIED[event.type] if name in event.body}
    return [event.type, said, [_row(row) for row in rows]]


def _row(row: RecordedFrames) -> list[Any]:
    return [row.frame, row.count, row.offset_us, row.codec, b64encode(row.bytes).decode()]


def unpack(data: bytes) -> Copied:
    """Raises `NotRenderable` for what no gateway of this version has packed."""
    try:
        return _unpacked(orjson.loads(data))
    except MALFORMED as error:
        raise NotRenderable(f"the copy of its answer cannot be read: {type(error).__name__}") from error


def _unpacked(copy: dict[str, Any]) -> Copied:
    if copy["v"] != VERSION:
        raise ValueError(copy["v"])
    events, frames = [], {}
    for position, (kind, fields, rows) in enumerate(copy["events"], 1):
        events.append(_recorded(position, kind, fields))
        if rows:
            frames[position] = [_frames(position, row) for row in rows]
    if events[-1].type != RequestCompleted.type:
        raise ValueError(events[-1].type)
    cost = copy["cost_usd"]
    return Copied(copy["request_id"], int(copy["at"]), None if cost is None else Usd.parse(cost), tuple(events), frames)


def _recorded(position: int, kind: str, fields: Mapping[str, Any]) -> RecordedEvent:
    data = orjson.dumps({"type": kind, **fields})
    return RecordedEvent(position, "", 0, "", position, kind, 0, 0, data, b"")


def _frames(generation: int, row: Sequence[Any]) -> RecordedFrames:
    frame, count, offset_us, codec, packed = row
    return RecordedFrames(generation, generation, 0, frame, count, offset_us, codec, b64decode(packed, validate=True))
