"""`token_generated`: the frames lane as flat event objects, composed when read. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from eventstore.envelope import RecordedEvent, RecordedFrames
from eventstore.frames import FrameReader
from gateway.wire.decoders import DECODERS
from gateway.wire.values import Delta, Piece, TextRun, WireError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TokenComposer:
    """Composes the tokens of one generation, its rows given in order from the first."""

    def __init__(self, started: RecordedEvent) -> None:
        body = started.body
        self._common = {
            "type": "token_generated",
            "schema": 1,
            "stream": started.stream,
            "origin": started.origin,
        }
        self._identity = {
            "request_id": body["request_id"],
            "attempt": body["attempt"],
            "provider": body["provider"],
            "model": body["model"],
        }
        self._began = EPOCH + timedelta(microseconds=started.at)
        self._decoder = DECODERS[body["decoder"]]()
        self._reader = FrameReader()

    def compose(self, row: RecordedFrames) -> list[dict[str, Any]]:
        """The flat `token_generated` object of each frame of the row."""
        frames = self._reader.unpack(row)
        moment = self._began + timedelta(microseconds=row.offset_us)
        try:
            each = self._decoder.decode_each(frames)
        except WireError:  # what no decoder understood is a frame without content
            each = [[] for _ in frames]
        return [
            {
                **self._common,
                "time": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                "position": row.position,
                **self._identity,
                "frame": row.frame + index,
                "offset_ms": row.offset_us / 1000,
                **_content(pieces),
            }
            for index, pieces in enumerate(each)
        ]


def _content(pieces: list[Piece]) -> dict[str, Any]:
    """The first content of a frame; frames of several choices or calls are rare, and then `more` has the others."""
    found = [value for piece in pieces if (value := _of_piece(piece))]
    if not found:
        return {}
    return found[0] if len(found) == 1 else {**found[0], "more": found[1:]}


def _of_piece(piece: Piece) -> dict[str, Any]:
    if isinstance(piece, TextRun):
        return {"choice": 0, "text": piece.text}
    if not isinstance(piece, Delta):
        return {}
    value: dict[str, Any] = {}
    for name in ("text", "reasoning", "refusal"):
        if content := getattr(piece, name):
            value[name] = content
    calls = [
        {"index": call.index, "id": call.id, "name": call.name, "arguments": call.arguments}
        for call in piece.tool_calls
    ]
    if calls:
        value["tool_call"] = calls[0]
        if len(calls) > 1:
            value["tool_calls"] = calls
    if piece.finish_reason is not None:
        value["finish_reason"] = piece.finish_reason
    return {"choice": piece.choice, **value} if value else {}
