"""`GenerateContentResponse`, written: in one piece, or as the events of a stream.

https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse. A call of a function has no pieces there: it
comes whole, at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from eventstore.catalogue.values import Usage
from eventstore.frames import SEP
from gateway.wire.chat_request import arguments_given
from gateway.wire.dialect import Form
from gateway.wire.gemini.errors import error_body
from gateway.wire.gemini.signed import signature
from gateway.wire.responses.sealed import BLOCKS
from gateway.wire.values import Delta, Fold, Piece, TextRun

FINISHED: Mapping[str, str] = {"length": "MAX_TOKENS", "content_filter": "SAFETY"}
"""Chat's reasons -> Google's; every other is STOP."""
THOUGHTS = "thoughts"
"""The option: whether the client asked to see what the model thought."""
ARRAY = "array"
"""The option: whether the answer stands in an array, as it does where a stream was asked for without SSE."""
_NOTHING: Mapping[str, Any] = {"index": 0, "message": {}, "finish_reason": None}


class GenerateStream:
    """Renders pieces to SSE."""

    def __init__(self, form: Form) -> None:
        self._thoughts = bool(form.options.get(THOUGHTS))
        self._tail = b"," + orjson.dumps(_tail(form))[1:]

    def pieces(self, pieces: Sequence[Piece]) -> bytes:
        """The bytes that these pieces add."""
        return b"".join(self._candidate(index, part) for piece in pieces for index, part in self._parts(piece))

    def completed(self, fold: Fold) -> bytes:
        """The calls, why it ended, and what it took."""
        ends = [_candidate(each, _calls(each) or [{"text": ""}]) for each in fold.choices() or (_NOTHING,)]
        return self._event({"candidates": ends, "usageMetadata": usage_object(fold.meta.usage)})

    def failed(self, error: Mapping[str, Any]) -> bytes:
        """An error after the answer began."""
        return b"data: " + error_body(None, error) + b"\n\n"

    def _parts(self, piece: Piece) -> Iterator[tuple[int, dict[str, Any]]]:
        if isinstance(piece, TextRun):
            for text in piece.escaped.split(SEP):
                yield 0, {"text": orjson.loads(b'"' + text + b'"')}
        elif isinstance(piece, Delta):
            if piece.reasoning and self._thoughts:
                yield piece.choice, {"text": piece.reasoning, "thought": True}
            if said := piece.text + piece.refusal:
                yield piece.choice, {"text": said}

    def _candidate(self, index: int, part: dict[str, Any]) -> bytes:
        return self._event({"candidates": [{"content": {"parts": [part], "role": "model"}, "index": index}]})

    def _event(self, value: dict[str, Any]) -> bytes:
        return b"data: " + orjson.dumps(value)[:-1] + self._tail + b"\n\n"


class GenerateBody:
    """Renders a whole answer."""

    def __init__(self, form: Form) -> None:
        self._form = form

    def pieces(self, pieces: Sequence[Piece]) -> bytes:
        """Nothing: the answer is released whole."""
        return b""

    def completed(self, fold: Fold) -> bytes:
        """The answer."""
        thoughts = bool(self._form.options.get(THOUGHTS))
        choices = fold.choices() or (_NOTHING,)
        candidates = [_candidate(each, _said(each, thoughts)) for each in choices]
        usage = usage_object(fold.meta.usage)
        body = orjson.dumps({"candidates": candidates, "usageMetadata": usage, **_tail(self._form)})
        return b"[" + body + b"]" if self._form.options.get(ARRAY) else body

    def failed(self, error: Mapping[str, Any]) -> bytes:
        """The error body."""
        return error_body(None, error)


def usage_object(usage: Usage | None) -> dict[str, int]:
    """Google's counts: the prompt with what the cache gave, and the candidates without the thoughts."""
    usage = usage or Usage()
    counts = {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": max(0, usage.output_tokens - usage.reasoning_tokens),
        "totalTokenCount": usage.input_tokens + usage.output_tokens,
    }
    more = {"thoughtsTokenCount": usage.reasoning_tokens, "cachedContentTokenCount": usage.cache_read_tokens}
    return counts | {name: count for name, count in more.items() if count}


def _tail(form: Form) -> dict[str, Any]:
    return {"modelVersion": form.model, "responseId": form.request_id}


def _candidate(choice: Mapping[str, Any], parts: list[dict[str, Any]]) -> dict[str, Any]:
    """A choice that has ended."""
    reason = FINISHED.get(choice["finish_reason"] or "", "STOP")
    return {"content": {"parts": parts, "role": "model"}, "finishReason": reason, "index": choice["index"]}


def _said(choice: Mapping[str, Any], thoughts: bool) -> list[dict[str, Any]]:
    message: Mapping[str, Any] = choice["message"]
    parts: list[dict[str, Any]] = []
    if thoughts and (thought := message.get("reasoning_content")):
        parts.append({"text": thought, "thought": True})
    if text := (message.get("content") or "") + (message.get("refusal") or ""):
        parts.append({"text": text})
    return [*parts, *_calls(choice)] or [{"text": ""}]


def _calls(choice: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The calls that came whole: there is no word for a piece of one. The first carries what its provider signed of the
    thinking, as Google's own do: https://ai.google.dev/gemini-api/docs/thought-signatures"""
    made: list[dict[str, Any]] = []
    for call in choice["message"].get("tool_calls") or ():
        inner = call[call["type"]]
        args = arguments_given(inner.get("arguments", inner.get("input", "")), choice["finish_reason"])
        if args is None:
            continue
        made.append({"functionCall": {"id": call["id"], "name": inner["name"], "args": args}})
    if made and (signed := choice["message"].get(BLOCKS)):
        made[0]["thoughtSignature"] = signature(signed)
    return made
