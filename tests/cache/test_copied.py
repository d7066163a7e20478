"""A copied answer, read back: what was packed, or an error that says so; nothing of the question in it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from eventstore.catalogue.values import Usd
from eventstore.envelope import RecordedEvent, RecordedFrames
from gateway.exchange.copied import pack, unpack
from gateway.exchange.render import NotRenderable


def recorded(position: int, kind: str, **fields: Any) -> RecordedEvent:
    data = orjson.dumps({"type": kind, "request_id": "r1", **fields})
    return RecordedEvent(position, "n1", position, "request-r1", position, kind, 1_000_000, 0, data, b"")


EVENTS = (
    recorded(5, "request_received", wire="openai.chat", renderer=1, body={"messages": "what was asked"}, model="m"),
    recorded(6, "generation_started", attempt=1, decoder="openai_chat_body.1"),
    recorded(
        9,
        "generation_completed",
        attempt=1,
        choices="what was said",
        usage_source="estimated",
        usage={"input_tokens": 3},
    ),
    recorded(10, "request_completed", provider="p", model="m", status=200, cost_usd=0.25),
)
FRAMES = {6: [RecordedFrames(7, 6, 0, 1, 1, 120, 0, b"\x00\xff{}"), RecordedFrames(8, 6, 1, 2, 1, 130, 0, b"[]")]}


AT = 1_000_000


def test_what_is_packed_comes_back() -> None:
    packed = pack(EVENTS, FRAMES, AT)
    assert b"what was" not in packed
    copied = unpack(packed)
    assert (copied.request_id, copied.at, copied.cost) == ("r1", AT, Usd.parse("0.25"))
    assert [event.type for event in copied.events] == [event.type for event in EVENTS]
    assert (copied.events[2].body["usage_source"], copied.events[2].body["usage"]) == ("estimated", {"input_tokens": 3})
    (rows,) = copied.frames.values()
    assert [(row.frame, row.count, row.offset_us, row.codec, row.bytes) for row in rows] == [
        (row.frame, row.count, row.offset_us, row.codec, row.bytes) for row in FRAMES[6]
    ]
    assert [event.position for event in copied.events if event.position in copied.frames] == [2]


GOOD: dict[str, Any] = orjson.loads(pack(EVENTS, FRAMES, AT))
START, GENERATION, _, END = GOOD["events"]
WRONG: list[dict[str, Any]] = [
    {"v": 2}, {"events": []}, {"events": [START]}, {"events": None}, {"at": "soon"}, {"cost_usd": "much"},
    {"events": [["request_completed", None, []]]}, {"events": [END[:1]]},
    {"events": [[GENERATION[0], GENERATION[1], [[1, 1, 0, 0, "no base64"]]], END]},
    {"events": [[GENERATION[0], GENERATION[1], [[1]]], END]},
]  # fmt: skip


@pytest.mark.parametrize(
    "copy",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{}",
        *(orjson.dumps(GOOD | change) for change in WRONG),
    ],
)
def test_what_no_gateway_has_packed_is_refused(copy: bytes) -> None:
    with pytest.raises(NotRenderable):
        unpack(copy)
