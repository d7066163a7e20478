"""What a request said and what came of it, read back from its events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eventstore.envelope import RecordedEvent, RecordedFrames
from eventstore.frames import FrameReader
from eventstore.log import Log
from eventstore.parts import join, named
from gateway.exchange.render import NotRenderable
from gateway.exchange.runs import GENERATION_ENDS, check_bound


async def whole_body(log: Log, skeleton: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a `request_received`, its blobs joined in. Raises `KeyError` or `LogCorrupt` for a blob."""
    blobs = {digest: await log.read_blob(digest) for digest in named(skeleton)}
    return join(skeleton, blobs.__getitem__)


def answer_message(events: Sequence[RecordedEvent]) -> dict[str, Any] | None:
    """The message of the first choice of the last whole answer among a request's events, as it was folded: behind what
    it went on with, where an attempt before had broken off."""
    found: dict[str, Any] | None = None
    before, broken = "", ""
    for event in events:
        if (choices := event.body.get("choices")) and event.type in GENERATION_ENDS:
            text = choices[0]["message"].get("content") or ""
            if event.type == "generation_completed":
                found, before = _behind(before, choices[0]["message"]), ""
            else:
                broken = text
        elif event.body.get("continued"):
            before, broken = before + broken, ""
    return found


def _behind(text: str, message: dict[str, Any]) -> dict[str, Any]:
    return {**message, "content": text + (message.get("content") or "")} if text else message


async def copy_blob(log: Log, digest: bytes) -> bytes:
    """The copy of another gateway's answer. Raises `NotRenderable` where it is gone, `LogCorrupt` where damaged."""
    try:
        return await log.read_blob(digest)
    except KeyError as error:
        raise NotRenderable("the copy of the answer that it was given is gone") from error


async def frames_of(log: Log, recorded: Sequence[RecordedEvent], head: int) -> dict[int, list[RecordedFrames]]:
    """The rows of each of a request's generations, by the position of its `generation_started`; up to `head` for one
    that has not ended. Raises `LogCorrupt` where they are not those that its end binds."""
    ends = {event.body["attempt"]: event for event in recorded if event.type in GENERATION_ENDS}
    found = {}
    for event in recorded:
        if event.type == "generation_started":
            end = ends.get(event.body["attempt"])
            rows = await log.read_frames(event.position, head if end is None else end.position)
            if end is not None:
                _check_rows(rows, end)
            found[event.position] = rows
    return found


def _check_rows(rows: Sequence[RecordedFrames], end: RecordedEvent) -> None:
    reader = FrameReader()
    for row in rows:
        reader.skip(row)
    check_bound(reader, end)
