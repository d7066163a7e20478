"""`token_generated`: the frames lane as flat event objects, composed when read. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from eventstore.envelope import RecordedEvent, RecordedFrames
from eventstore.frames import FrameReader, Middles, Part
from gateway.wire.decoders import decoder_named
from gateway.wire.values import Delta, Piece, TextRun

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
        self._decoder = decoder_named(body["decoder"], body["request_id"])
        self._reader = FrameReader()

    def compose(self, row: RecordedFrames) -> list[dict[str, Any]]:
        """The flat `token_generated` object of each frame of the row."""
        parts = self._reader.parts(row)
        moment = self._began + timedelta(microseconds=row.offset_us)
        try:
            each = [self._decoder.decode([one], self._reader.template) for part in parts for one in _each(part)]
        except Exception:  # noqa: BLE001  what no decoder understood, for whatever reason, is a frame without content
            each = [[]] * row.count
        told = {
            **self._common,
            "time": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "position": row.position,
            **self._identity,
            "frame": 0,  # its place among the members; each has its own
            "offset_ms": row.offset_us / 1000,
        }
        return [{**told, "frame": number, **_content(pieces)} for number, pieces in enumerate(each, row.frame)]


def _each(part: Part) -> Sequence[Part]:
    """The part's frames, each as a part of its own."""
    return [part] if isinstance(part, bytes) else [Middles(middle) for middle in part.each()]


def _content(pieces: list[Piece]) -> dict[str, Any]:
    """What a frame says, of its first choice; those of further choices are rare, and stand in `more`."""
    if len(pieces) == 1 and isinstance(piece := pieces[0], TextRun):
        return {"choice": 0, "text": piece.text} if piece.text else {}
    choices: dict[int, dict[str, Any]] = {}
    for piece in pieces:
        if isinstance(piece, TextRun):
            piece = Delta(text=piece.text)
        if isinstance(piece, Delta):
            _add(choices.setdefault(piece.choice, {}), piece)
    first, *more = [{"choice": index, **value} for index, value in choices.items() if value] or [{}]
    return {**first, "more": more} if more else first


def _add(value: dict[str, Any], delta: Delta) -> None:
    """What a delta adds to its choice's content: a whole answer is one frame of many."""
    for name in ("text", "reasoning", "refusal"):
        if content := getattr(delta, name):
            value[name] = value.get(name, "") + content
    calls = [
        {"index": call.index, "id": call.id, "name": call.name, "arguments": call.arguments}
        for call in delta.tool_calls
    ]
    if calls and "tool_call" in value:
        value["tool_calls"] = [*value.get("tool_calls", [value["tool_call"]]), *calls]
    elif calls:
        value["tool_call"] = calls[0]
        if len(calls) > 1:
            value["tool_calls"] = calls
    if delta.finish_reason is not None:
        value["finish_reason"] = delta.finish_reason
