"""OpenAI chat completions, written: the client's side of the format. One renderer for live answers and for replay.

Rules of the stream: https://platform.openai.com/docs/api-reference/chat/streaming
The first chunk of a choice carries the role; the finish reason comes once, last; usage comes in a chunk of its own,
without choices, only if it was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from eventstore.frames import SEP
from gateway.errors import openai_error_body
from gateway.wire.openai_chat import usage_to_openai
from gateway.wire.values import Delta, Fold, Meta, Piece, TextRun, ToolCallDelta

RENDERER = 1
"""The version that `request_received` records. A change of bytes is a new version; this one stays."""

DONE = b"data: [DONE]\n\n"
_LASTING = frozenset({"system_fingerprint", "service_tier"})
"""Top-level keys that stand on every chunk once they are known, as OpenAI has them. What is no short word under these
names would multiply the stream, and is not said in one."""
_LONGEST_LASTING = 256
_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


class ChatStream:
    """Renders pieces to SSE. `usage_chunk`: the client asked for usage."""

    def __init__(self, request_id: str, created: int, model: str, usage_chunk: bool) -> None:
        head = orjson.dumps(
            {"id": f"chatcmpl-{request_id}", "object": "chat.completion.chunk", "created": created, "model": model}
        )
        self._head = b"data: " + head[:-1]
        self._usage_chunk = usage_chunk
        tail = b',"usage":null}\n\n' if usage_chunk else b"}\n\n"
        self._tail = tail
        self._text_prefix = self._head + b',"choices":[{"index":0,"delta":{"content":"'
        self._text_suffix = b'"},"logprobs":null,"finish_reason":null}]' + tail
        self._between = self._text_suffix + self._text_prefix
        self._top: dict[str, Any] = {}
        self._once: dict[str, Any] = {}
        self._reasons: dict[int, str | None] = {}
        self._calls: dict[int, set[int]] = {}

    def pieces(self, pieces: Sequence[Piece]) -> bytes:
        """The bytes that these pieces add to the answer."""
        out: list[bytes] = []
        for piece in pieces:
            if type(piece) is TextRun:
                if 0 not in self._reasons:
                    self._open(0, "", out)
                out.append(self._text_prefix + piece.escaped.replace(SEP, self._between) + self._text_suffix)
            elif type(piece) is Delta:
                self._delta(piece, out)
            elif type(piece) is Meta and piece.top:
                self._carry(piece.top)
        return b"".join(out)

    def completed(self, fold: Fold) -> bytes:
        """The end of a whole answer: finish reasons, usage if it was asked for, the end mark."""
        out: list[bytes] = []
        if not self._reasons:
            self._open(0, "", out)
        for index in sorted(self._reasons):
            reason = finish_reason(self._reasons[index], bool(self._calls.get(index)))
            out.append(self._chunk(index, {}, reason))
        if self._usage_chunk:
            usage = orjson.dumps(usage_object(fold))
            out.append(self._head + b',"choices":[],"usage":' + usage + b"}\n\n")
        out.append(DONE)
        return b"".join(out)

    def failed(self, error: Mapping[str, Any]) -> bytes:
        """An error after the answer began: a frame that clients raise on, and no end mark."""
        return b"data: " + orjson.dumps(openai_error_body(error)) + b"\n\n"

    def _carry(self, top: dict[str, Any]) -> None:
        """Top-level keys of the provider: what lasts stands on every later chunk, all else on the next one that is no
        bare text. At the latest that is the one with the finish reason."""
        lasting = {key: value for key, value in top.items() if _lasts(key, value)}
        self._once.update((key, value) for key, value in top.items() if key not in _LASTING)
        if not lasting:
            return
        self._top.update(lasting)
        extra = b"," + orjson.dumps(self._top)[1:-1]
        tail = extra + (b',"usage":null}\n\n' if self._usage_chunk else b"}\n\n")
        self._text_suffix = b'"},"logprobs":null,"finish_reason":null}]' + tail
        self._between = self._text_suffix + self._text_prefix
        self._tail = tail

    def _open(self, index: int, content: str | None, out: list[bytes]) -> None:
        self._reasons[index] = None
        out.append(self._chunk(index, {"role": "assistant", "content": content}, None))

    def _delta(self, delta: Delta, out: list[bytes]) -> None:
        index = delta.choice
        if index not in self._reasons:
            self._open(index, None if delta.tool_calls and not delta.text else "", out)
        value: dict[str, Any] = {}
        if delta.text:
            value["content"] = delta.text
        if delta.reasoning:
            value["reasoning_content"] = delta.reasoning
        if delta.refusal:
            value["refusal"] = delta.refusal
        if delta.extra:
            value.update(delta.extra)
        if value or delta.logprobs:
            out.append(self._chunk(index, value, None, delta.logprobs))
        if delta.tool_calls:
            self._tool_calls(index, delta.tool_calls, out)
        if delta.finish_reason is not None:
            self._reasons[index] = delta.finish_reason

    def _tool_calls(self, index: int, calls: Sequence[ToolCallDelta], out: list[bytes]) -> None:
        opened = self._calls.setdefault(index, set())
        for call in calls:
            kind, field = ("custom", "input") if call.type == "custom" else ("function", "arguments")
            value: dict[str, Any] = {"index": call.index}
            if call.index not in opened:
                opened.add(call.index)
                value["id"] = call.id
                value["type"] = call.type
                value[kind] = {"name": call.name, field: call.arguments}
            elif call.arguments:
                value[kind] = {field: call.arguments}
            else:
                continue
            out.append(self._chunk(index, {"tool_calls": [value]}, None))

    def _chunk(self, index: int, delta: dict[str, Any], reason: str | None, logprobs: Any = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        once = b""
        if self._once:
            once, self._once = b"," + orjson.dumps(self._once)[1:-1], {}
        return self._head + b',"choices":[' + orjson.dumps(choice) + b"]" + once + self._tail


def _lasts(key: str, value: Any) -> bool:
    return key in _LASTING and isinstance(value, str) and len(value) <= _LONGEST_LASTING


class ChatBody:
    """Renders a whole answer as one `chat.completion` body."""

    def __init__(self, request_id: str, created: int, model: str) -> None:
        self._head = {
            "id": f"chatcmpl-{request_id}",
            "object": "chat.completion",
            "created": created,
            "model": model,
        }

    def pieces(self, pieces: Sequence[Piece]) -> bytes:
        """Nothing: a body is released whole."""
        return b""

    def completed(self, fold: Fold) -> bytes:
        """The body."""
        choices = [_answer_choice(choice) for choice in fold.choices() or (EMPTY_CHOICE,)]
        return orjson.dumps({**self._head, "choices": choices, "usage": usage_object(fold), **(fold.meta.top or {})})

    def failed(self, error: Mapping[str, Any]) -> bytes:
        """The error body."""
        return orjson.dumps(openai_error_body(error))


EMPTY_CHOICE: Mapping[str, Any] = {"index": 0, "message": {"role": "assistant", "content": "", "refusal": None}}


def _answer_choice(choice: Mapping[str, Any]) -> dict[str, Any]:
    message = choice["message"]
    reason = finish_reason(choice.get("finish_reason"), bool(message.get("tool_calls")))
    return {
        "index": choice["index"],
        "message": message,
        "logprobs": choice.get("logprobs"),
        "finish_reason": reason,
    }


def usage_object(fold: Fold) -> dict[str, Any]:
    """The provider's own usage where it is OpenAI's shape (nothing is lost, a count that it lacks is filled in), else
    made from the normalised one."""
    raw, usage = fold.meta.usage_raw, fold.meta.usage
    if usage is None:
        return dict.fromkeys(_COUNTS, 0)
    if raw is None or "prompt_tokens" not in raw:
        return usage_to_openai(usage)
    if missing := [name for name in _COUNTS if type(each := raw.get(name)) is not int or each < 0]:
        made = usage_to_openai(usage)
        return {**raw, **{name: made[name] for name in missing}}
    return raw


def finish_reason(reason: str | None, called: bool) -> str:
    """OpenAI's word. A choice with tool calls that ended in `stop` ended for them; none given means `stop`."""
    if called and reason in (None, "stop"):
        return "tool_calls"
    return reason or "stop"
