"""The client's bytes as a fold of the exchange's committed events: live, resumed and replayed by the same code.

Live, the frames' meaning is already at hand; in replay it is decoded again from the recorded rows, by the decoder that
`generation_started` names. Row by row both see the same pieces, so the bytes are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol

import orjson

from eventstore.envelope import RecordedEvent, RecordedFrames
from eventstore.errors import LogError, UnknownEventType
from eventstore.frames import FrameReader
from gateway.errors import openai_error_body
from gateway.exchange.ids import created_s
from gateway.wire.decoders import DECODERS
from gateway.wire.openai_chat_answer import ChatBody, ChatStream
from gateway.wire.values import Fold, Piece

SSE_HEADERS = {"content-type": "text/event-stream", "cache-control": "no-cache", "x-accel-buffering": "no"}
JSON_HEADERS = {"content-type": "application/json"}


class Renderer(Protocol):
    """One answer in one wire format."""

    def pieces(self, pieces: Sequence[Piece]) -> bytes:
        """What these pieces add."""

    def completed(self, fold: Fold) -> bytes:
        """The end of a whole answer."""

    def failed(self, error: Mapping[str, Any]) -> bytes:
        """The error, after the answer began (a frame) or instead of it (a body)."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """An answer as the client got it. `whole` is False where it was cut: the client may have less, never other bytes.
    `digest` is sha256 of `body`."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool

    @property
    def digest(self) -> str:
        return sha256(self.body).hexdigest()


class NotRenderable(Exception):
    """The answer cannot be rendered again: its content was not retained, or it has no answer yet."""


def renderer(wire: str, version: int, streamed: bool, request_id: str, model: str, include_usage: bool) -> Renderer:
    """The renderer of a wire format in the version that `request_received` names. Raises `NotRenderable`."""
    if (wire, version) != ("openai_chat", 1):
        raise NotRenderable(f"no renderer {wire} version {version}")
    created = created_s(request_id)
    if streamed:
        return ChatStream(request_id, created, model, include_usage)
    return ChatBody(request_id, created, model)


def error_body(error: Mapping[str, Any]) -> bytes:
    """The body of an error answer that had not begun."""
    return orjson.dumps(openai_error_body(error))


class Rendering:
    """The fold: give it an exchange's events and frame rows in order, take the bytes that each adds."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.ended = False
        self.whole = False
        self._renderer: Renderer | None = None
        self._replay: FrameReplay | None = None

    def event(self, recorded: RecordedEvent) -> bytes:
        """The bytes that an event adds. Raises `NotRenderable`."""
        step = _STEPS.get(recorded.type)
        return step(self, recorded.body) if step else b""

    def frames(self, row: RecordedFrames) -> bytes:
        """The bytes that a row of frames adds."""
        if self._renderer is None or self._replay is None:
            raise NotRenderable("frames before their generation")
        try:
            return self._renderer.pieces(self._replay.pieces(row))
        except LogError:
            raise
        except Exception:  # noqa: BLE001  whatever it was: live, such a row ended the attempt, and gave the client nothing
            return b""

    def _received(self, body: dict[str, Any]) -> bytes:
        if body.get("retention") == "none":
            raise NotRenderable("the request asked that its content not be retained")
        streamed = body["stream_answer"]
        self.headers = dict(SSE_HEADERS if streamed else JSON_HEADERS)
        self._renderer = renderer(
            body["wire"],
            body["renderer"],
            streamed,
            body["request_id"],
            body["model"],
            body.get("include_usage") or False,
        )
        return b""

    def _started(self, body: dict[str, Any]) -> bytes:
        self._replay = FrameReplay(body["decoder"])
        return b""

    def _completed(self, body: dict[str, Any]) -> bytes:
        self._end(whole=True)
        if self._renderer is None or self._replay is None:
            raise NotRenderable("an answer without a generation")
        return self._renderer.completed(self._replay.fold)

    def _failed(self, body: dict[str, Any]) -> bytes:
        self._end(whole=True)
        if body["began"] and self._renderer is not None:
            return self._renderer.failed(body["error"])
        return self._error(body)

    def _rejected(self, body: dict[str, Any]) -> bytes:
        if body.get("retention") == "none":
            raise NotRenderable("the request asked that its content not be retained")
        self._end(whole=True)
        return self._error(body)

    def _cut(self, body: dict[str, Any]) -> bytes:
        self._end(whole=False)
        return b""

    def _error(self, body: dict[str, Any]) -> bytes:
        self.status, self.headers = body["status"], dict(JSON_HEADERS)
        return error_body(body["error"])

    def _end(self, whole: bool) -> None:
        self.ended, self.whole = True, whole


_STEPS = {
    "request_received": Rendering._received,
    "generation_started": Rendering._started,
    "request_completed": Rendering._completed,
    "request_failed": Rendering._failed,
    "request_rejected": Rendering._rejected,
    "request_cancelled": Rendering._cut,
    "request_interrupted": Rendering._cut,
}


class FrameReplay:
    """Recorded rows of one generation, decoded again. `fold` is the whole answer so far."""

    def __init__(self, decoder: str) -> None:
        made = DECODERS.get(decoder)
        if made is None:
            raise UnknownEventType(f"decoder {decoder}")
        self.decoder = made()
        self.reader = FrameReader()
        self.fold = Fold()

    def pieces(self, row: RecordedFrames) -> list[Piece]:
        """What the next row means."""
        parts = self.reader.parts(row)
        pieces = self.decoder.decode(parts, self.reader.template)
        self.fold.add(pieces)
        return pieces


def render_again(events: Sequence[RecordedEvent], frames: Mapping[int, Sequence[RecordedFrames]]) -> Rendered:
    """A request's answer from its recorded events and, by the position of their `generation_started`, its frames.

    Raises `NotRenderable` where its content was not retained, `LogCorrupt` where a row is damaged.
    """
    rendering = Rendering()
    body = []
    for recorded in events:
        body.append(rendering.event(recorded))
        if recorded.type == "generation_started":
            body.extend(rendering.frames(row) for row in frames.get(recorded.position, ()))
    return Rendered(rendering.status, rendering.headers, b"".join(body), rendering.whole)
