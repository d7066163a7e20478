"""The client's bytes as a fold of the exchange's committed events: live, resumed and replayed by the same code.

Live, the frames' meaning is already at hand; in replay it is decoded again from the recorded rows, by the decoder that
`generation_started` names. Row by row both see the same pieces, so the bytes are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

from eventstore.catalogue.values import Usage
from eventstore.envelope import RecordedEvent, RecordedFrames
from eventstore.errors import LogError
from eventstore.frames import FrameReader
from gateway.exchange.ids import created_s
from gateway.exchange.inputs import Submission
from gateway.exchange.runs import GENERATION_ENDS, check_bound
from gateway.wire.continued import Continued
from gateway.wire.decoders import decoder_named
from gateway.wire.dialect import Dialect, Form, Renderer
from gateway.wire.dialects import DIALECTS
from gateway.wire.held import Held
from gateway.wire.rounds import Rounds
from gateway.wire.values import Fold, Piece

SSE_HEADERS = {"content-type": "text/event-stream", "cache-control": "no-cache", "x-accel-buffering": "no"}
JSON_HEADERS = {"content-type": "application/json"}


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


def dialect(wire: str, version: int) -> Dialect:
    """The dialect that an event names. Raises `NotRenderable`."""
    known = DIALECTS.get((wire, version))
    if known is None:
        raise NotRenderable(f"no renderer {wire} version {version}")
    return known


def form(submission: Submission) -> Form:
    """The form of an answer, live."""
    return Form(
        request_id=submission.request_id,
        created=created_s(submission.request_id),
        model=submission.model,
        streamed=submission.streamed,
        include_usage=submission.include_usage,
        options=submission.options or {},
    )


def recorded_form(body: Mapping[str, Any]) -> Form:
    """The same, from `request_received`."""
    return Form(
        request_id=body["request_id"],
        created=created_s(body["request_id"]),
        model=body["model"],
        streamed=body["stream_answer"],
        include_usage=body.get("include_usage") or False,
        options=body.get("options") or {},
    )


MakeForm = Callable[[Mapping[str, Any]], Form]
"""From the body of `request_received` to a form of its answer."""


class Rendering:
    """The fold: give it an exchange's events and frame rows in order, take the bytes that each adds. `form` makes
    another form of the same answer than its client got; `as_sent`: errors are told as its client was told them."""

    def __init__(self, form: MakeForm = recorded_form, as_sent: bool | None = None) -> None:
        self._form, self._as_sent = form, form is recorded_form if as_sent is None else as_sent
        self.status = 200
        self.headers: dict[str, str] = {}
        self.ended = False
        self.whole = False
        self._dialect: Dialect | None = None
        self._renderer: Renderer | None = None
        self._fresh: Callable[[], Renderer] | None = None
        self._broke = self._ran = False
        self._replay: FrameReplay | None = None
        self._attempt = 0
        self._used = Usage()

    def event(self, recorded: RecordedEvent) -> bytes:
        """The bytes that an event adds. Raises `NotRenderable`, and `LogCorrupt` where the frames before it are not
        those that it binds."""
        if recorded.type in GENERATION_ENDS:
            self._check_bound(recorded)
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

    def broken_off(self, error: Mapping[str, Any]) -> bytes:
        """The end of an answer that has none, or none yet, as if it had failed here."""
        return b"" if self._renderer is None else self._renderer.failed(error)

    def _check_bound(self, end: RecordedEvent) -> None:
        """A call beside the attempt has no frames; what was copied from elsewhere is bound as a whole."""
        if self._replay is not None and end.body.get("attempt") == self._attempt and "frames_digest" in end.body:
            check_bound(self._replay.reader, end)

    def _received(self, body: dict[str, Any]) -> bytes:
        if body.get("retention") == "none":
            raise NotRenderable("the request asked that its content not be retained")
        self._dialect, form = dialect(body["wire"], body["renderer"]), self._form(body)
        self.headers = dict(SSE_HEADERS) if form.streamed else {"content-type": self._dialect.content_type(form)}
        self._fresh = partial(self._dialect.renderer, form)
        self._renderer = self._fresh()
        return b""

    def _started(self, body: dict[str, Any]) -> bytes:
        if self._ran and isinstance(self._renderer, Rounds) and self._replay is not None:
            self._renderer.ran(self._replay.fold)
        self._ran = False
        self._attempt = body["attempt"]
        self._replay = FrameReplay(body["decoder"], body["request_id"])
        if self._broke and self._fresh is not None and not isinstance(self._renderer, Held):
            self._renderer = self._fresh()  # what the attempt before gave was shown to nobody
        self._broke = False
        if body.get("held") and self._renderer is not None and not isinstance(self._renderer, Held):
            self._renderer = Held(self._renderer)
        return b""

    def _generation_completed(self, body: dict[str, Any]) -> bytes:
        if body["usage_source"] == "estimated" and self._replay is not None:
            self._replay.fold.estimate(Usage(**body["usage"]))
        return b""

    def _generation_failed(self, body: dict[str, Any]) -> bytes:
        if body.get("attempt") in (None, self._attempt):  # else a call beside it came to nothing
            self._broke, self._used = True, Usage(**body.get("usage", {}))
        return b""

    def _tool(self, body: dict[str, Any]) -> bytes:
        self._ran = True
        return b""

    def _again(self, body: dict[str, Any]) -> bytes:
        if body.get("continued") and self._renderer is not None and self._replay is not None:
            self._renderer = Continued.over(self._renderer, self._replay.fold, self._used)
            self._broke = False
        if isinstance(self._renderer, Held) and self._replay is not None:
            self._renderer.again(self._replay.fold)
        return b""

    def _completed(self, body: dict[str, Any]) -> bytes:
        self._end(whole=True)
        if self._renderer is None or self._replay is None:
            raise NotRenderable("an answer without a generation")
        return self._renderer.completed(self._replay.fold)

    def _failed(self, body: dict[str, Any]) -> bytes:
        self._end(whole=True)
        if self._renderer is not None and (body["began"] or not self._as_sent):
            return self._renderer.failed(body["error"])
        return self._error(body)

    def _rejected(self, body: dict[str, Any]) -> bytes:
        if body.get("retention") == "none":
            raise NotRenderable("the request asked that its content not be retained")
        self._end(whole=True)
        self._dialect = dialect(body["wire"], body["renderer"])
        return self._error(body)

    def _cut(self, body: dict[str, Any]) -> bytes:
        self._end(whole=False)
        return b""

    def _cancelled(self, body: dict[str, Any]) -> bytes:
        return self._cut(body) if body.get("error") is None else self._failed(body)

    def _error(self, body: dict[str, Any]) -> bytes:
        self.status, self.headers = body["status"], dict(JSON_HEADERS)
        if self._dialect is None:
            raise NotRenderable("an error without its request")
        return self._dialect.error_answer(self.status, body["error"], body["request_id"])

    def _end(self, whole: bool) -> None:
        self.ended, self.whole = True, whole


_STEPS = {
    "request_received": Rendering._received,
    "generation_started": Rendering._started,
    "generation_completed": Rendering._generation_completed,
    "generation_failed": Rendering._generation_failed,
    "tool_started": Rendering._tool,
    "tool_failed": Rendering._tool,
    "retry_attempted": Rendering._again,
    "fallback_selected": Rendering._again,
    "request_completed": Rendering._completed,
    "request_failed": Rendering._failed,
    "request_rejected": Rendering._rejected,
    "request_cancelled": Rendering._cancelled,
    "request_interrupted": Rendering._cut,
}


class FrameReplay:
    """Recorded rows of one generation, decoded again. `fold` is the whole answer so far."""

    def __init__(self, decoder: str, request_id: str) -> None:
        self.decoder = decoder_named(decoder, request_id)
        self.reader = FrameReader()
        self.fold = Fold()
        self._broken = False

    def pieces(self, row: RecordedFrames) -> list[Piece]:
        """What the next row means. Behind one that raised, nothing: live, that ended the attempt, whatever came with
        it."""
        parts = self.reader.parts(row)
        if self._broken:
            return []
        self._broken = True
        pieces = self.decoder.decode(parts, self.reader.template)
        self.fold.add(pieces)
        self._broken = False
        return pieces


def render_again(
    events: Sequence[RecordedEvent],
    frames: Mapping[int, Sequence[RecordedFrames]],
    form: MakeForm = recorded_form,
    as_sent: bool | None = None,
) -> Rendered:
    """A request's answer from its recorded events and, by the position of their `generation_started`, its frames.

    Raises `NotRenderable` where its content was not retained, `LogCorrupt` where a row is damaged.
    """
    rendering = Rendering(form, as_sent)
    body = b"".join(pieces_again(rendering, events, frames))
    return Rendered(rendering.status, rendering.headers, body, rendering.whole)


def pieces_again(
    rendering: Rendering, events: Sequence[RecordedEvent], frames: Mapping[int, Sequence[RecordedFrames]]
) -> Iterator[bytes]:
    """What each event and each row adds, empty where nothing. Raises like `render_again`."""
    for recorded in events:
        yield rendering.event(recorded)
        if recorded.type == "generation_started":
            for row in frames.get(recorded.position, ()):
                yield rendering.frames(row)
