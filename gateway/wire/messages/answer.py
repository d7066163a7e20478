"""Anthropic's Messages, written: the event stream and the whole message.

https://docs.anthropic.com/en/api/messages-streaming. Where the upstream is Anthropic itself its own frames pass
(`Raw`), so that nothing of theirs is lost; any other answer is told in blocks. Blocks of tool calls stay open to the
end, since parallel calls can come by turns.

Nothing is told before something of the answer is there: until then another model can still give it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from eventstore.catalogue.values import Usage
from eventstore.frames import SEP
from gateway.wire.chat_request import arguments_given
from gateway.wire.dialect import Form
from gateway.wire.messages.errors import error_object
from gateway.wire.sse import read_frame
from gateway.wire.values import Delta, Fold, Meta, Piece, Raw, TextRun, ToolCallDelta

STOP_REASONS: Mapping[str, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_BEFORE = frozenset({b"message_start", b"ping"})
"""Frames that come before an answer, also before an error in its place."""


class MessagesStream:
    """Renders pieces to SSE."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._raw = self._begun = False
        self._held: bytes | None = b""
        self._count = 0
        self._open: tuple[str, int] | None = None
        self._calls: dict[int, int] = {}

    def pieces(self, pieces: Sequence[Piece]) -> bytes:
        """The bytes that these pieces add."""
        return b"".join(self._piece(piece) for piece in pieces)

    def completed(self, fold: Fold) -> bytes:
        """The end of the message, with what it took."""
        if self._raw:
            return self._held or b""
        out = self._start() + self._close()
        out += b"".join(_event("content_block_stop", index=index) for index in self._calls.values())
        delta = {"stop_reason": stop_reason(fold), "stop_sequence": stop_sequence(fold)}
        out += _event("message_delta", delta=delta, usage=usage_object(fold.meta.usage))
        return out + _event("message_stop")

    def failed(self, error: Mapping[str, Any]) -> bytes:
        """An error after the message began."""
        return _event(**error_object(None, error, self._form.request_id))

    def _piece(self, piece: Piece) -> bytes:
        if isinstance(piece, Raw):
            return self._passed(piece.frame)
        if self._raw or isinstance(piece, Meta):
            return b""
        if isinstance(piece, TextRun):
            texts = [orjson.loads(b'"' + text + b'"') for text in piece.escaped.split(SEP)]
            return b"".join(self._text("text", text) for text in texts)
        return self._delta(piece) if isinstance(piece, Delta) and piece.choice == 0 else b""

    def _passed(self, frame: bytes) -> bytes:
        self._raw = True
        if self._held is None:
            return frame + b"\n\n"
        self._held += frame + b"\n\n"
        if read_frame(frame)[0] in _BEFORE:
            return b""
        held, self._held = self._held, None
        return held

    def _delta(self, delta: Delta) -> bytes:
        out = self._text("thinking", delta.reasoning) if delta.reasoning else b""
        if said := delta.text + delta.refusal:
            out += self._text("text", said)
        return out + b"".join(self._call(call) for call in delta.tool_calls)

    def _start(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        message = {**_head(self._form), "content": [], "stop_reason": None, "stop_sequence": None}
        return _event("message_start", message={**message, "usage": usage_object(None)})

    def _text(self, kind: str, text: str) -> bytes:
        out = self._start()
        if self._open is None or self._open[0] != kind:
            out += self._close()
            self._open = (kind, self._count)
            block = {"type": kind, kind: ""} | ({"signature": ""} if kind == "thinking" else {})
            out += self._block(block)
        return out + _delta_event(self._open[1], {"type": f"{kind}_delta", kind: text})

    def _call(self, call: ToolCallDelta) -> bytes:
        out = self._start()
        if call.index not in self._calls:
            out += self._close()
            self._calls[call.index] = self._count
            out += self._block({"type": "tool_use", "id": call.id, "name": call.name, "input": {}})
        if call.arguments:
            delta = {"type": "input_json_delta", "partial_json": call.arguments}
            out += _delta_event(self._calls[call.index], delta)
        return out

    def _block(self, block: dict[str, Any]) -> bytes:
        index, self._count = self._count, self._count + 1
        return _event("content_block_start", index=index, content_block=block)

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        index, self._open = self._open[1], None
        return _event("content_block_stop", index=index)


class MessagesBody:
    """Renders a whole message."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._raw = b""

    def pieces(self, pieces: Sequence[Piece]) -> bytes:
        """Nothing: a message is released whole."""
        for piece in pieces:
            if isinstance(piece, Raw):
                self._raw = piece.frame
        return b""

    def completed(self, fold: Fold) -> bytes:
        """The message."""
        if self._raw:
            return self._raw
        content = _content(fold.choices()[0]) if fold.choices() else []
        end = {"stop_reason": stop_reason(fold), "stop_sequence": stop_sequence(fold)}
        usage = usage_object(fold.meta.usage)
        return orjson.dumps({**_head(self._form), "content": content, **end, "usage": usage})

    def failed(self, error: Mapping[str, Any]) -> bytes:
        """The error body."""
        return orjson.dumps(error_object(None, error, self._form.request_id))


def stop_reason(fold: Fold) -> str:
    """Anthropic's word: its own, where the upstream said one that OpenAI has none for. Calls are to be run where the
    answer ended for them, not where it was cut off or refused."""
    own = _extra(fold).get("stop_reason")
    if isinstance(own, str):
        return own
    told = STOP_REASONS.get(fold.finish_reason or "stop", "end_turn")
    called = any(choice["message"].get("tool_calls") for choice in fold.choices()[:1])
    return "tool_use" if called and told == "end_turn" else told


def stop_sequence(fold: Fold) -> str | None:
    """The one that ended the answer, where that is known."""
    own = _extra(fold).get("stop_sequence")
    return own if isinstance(own, str) else None


def usage_object(usage: Usage | None) -> dict[str, Any]:
    """Their counts: `input_tokens` is without what the cache gave and took."""
    usage = usage or Usage()
    written = usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
    return {
        "input_tokens": max(0, usage.input_tokens - usage.cache_read_tokens - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "output_tokens": usage.output_tokens,
    }


def _extra(fold: Fold) -> Mapping[str, Any]:
    message: Mapping[str, Any] = fold.choices()[0]["message"] if fold.choices() else {}
    return message


def _head(form: Form) -> dict[str, Any]:
    return {"id": f"msg_{form.request_id}", "type": "message", "role": "assistant", "model": form.model}


def _content(choice: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The blocks. The input of a call that was cut off is empty, as Anthropic has it: the stop reason says so."""
    message: Mapping[str, Any] = choice["message"]
    content: list[dict[str, Any]] = []
    if thought := message.get("reasoning_content"):
        content.append({"type": "thinking", "thinking": thought, "signature": ""})
    if text := (message.get("content") or "") + (message.get("refusal") or ""):
        content.append({"type": "text", "text": text})
    for call in message.get("tool_calls") or ():
        inner = call[call["type"]]
        given = arguments_given(inner.get("arguments", inner.get("input", "")), choice.get("finish_reason"))
        content.append({"type": "tool_use", "id": call["id"], "name": inner["name"], "input": given or {}})
    return content


def _delta_event(index: int, delta: dict[str, Any]) -> bytes:
    return _event("content_block_delta", index=index, delta=delta)


def _event(type: str, **fields: Any) -> bytes:
    return b"event: " + type.encode() + b"\ndata: " + orjson.dumps({"type": type, **fields}) + b"\n\n"
