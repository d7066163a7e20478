"""Responses, written: the event stream with its gapless numbers, and the whole object.

https://platform.openai.com/docs/api-reference/responses-streaming. A message or a piece of reasoning ends where another
item begins; calls of tools stay open to the end, since parallel calls can come by turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from eventstore.frames import SEP
from gateway.wire.dialect import Form
from gateway.wire.responses.objects import (
    annotations_of,
    call_item,
    custom_input,
    custom_item,
    ending,
    error_object,
    is_custom,
    message_item,
    reasoning_item,
    refusal_part,
    response_object,
    summarised,
    text_part,
)
from gateway.wire.responses.sealed import BLOCKS
from gateway.wire.values import Delta, Fold, Meta, Piece, TextRun, ToolCallDelta


@dataclass(slots=True)
class _Call:
    index: int
    call_id: str
    name: str
    native: bool
    """Whether its arguments are the text of a custom tool, and not the object of a function that stands for it."""
    arguments: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Part:
    """The open part of a message, or an open piece of reasoning."""

    kind: str
    index: int
    text: list[str] = field(default_factory=list)
    logprobs: list[Any] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    signed: list[dict[str, Any]] = field(default_factory=list)


class ResponsesStream:
    """Renders pieces to SSE."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._number = 0
        self._out: list[bytes] = []
        self._begun = False
        self._items: dict[int, dict[str, Any]] = {}
        self._count = 0
        self._message: list[dict[str, Any]] | None = None
        self._at = 0
        self._part: _Part | None = None
        self._calls: dict[int, _Call] = {}

    def pieces(self, pieces: Sequence[Piece]) -> bytes:
        """The bytes that these pieces add."""
        for piece in pieces:
            if isinstance(piece, TextRun):
                for text in piece.escaped.split(SEP):
                    self._say("output_text", orjson.loads(b'"' + text + b'"'))
            elif isinstance(piece, Delta) and piece.choice == 0:
                self._delta(piece)
            elif isinstance(piece, Meta):
                continue
        return self._taken()

    def completed(self, fold: Fold) -> bytes:
        """The ends of what is open, and the whole response."""
        response = self.ended(fold)
        self._event(f"response.{response['status']}", response=response)
        return self._taken()

    def failed(self, error: Mapping[str, Any]) -> bytes:
        """The ends of what is open, and the response that failed, with what it had by then."""
        self._event("response.failed", response=self.broken(error))
        return self._taken()

    def ended(self, fold: Fold) -> dict[str, Any]:
        """End what is open; the response object."""
        status, fields = ending(fold)
        self._end(status)
        return response_object(self._form, status, self._output(), fold.meta.usage, **fields)

    def broken(self, error: Mapping[str, Any]) -> dict[str, Any]:
        """The same, of a response that failed."""
        self._end("incomplete")
        return response_object(self._form, "failed", self._output(), error=error_object(error))

    def _output(self) -> list[dict[str, Any]]:
        return [item for _, item in sorted(self._items.items())]

    def _end(self, status: str) -> None:
        """The last item has this status; those before it are complete."""
        self._begin()
        last = self._at if self._part is not None or self._message is not None else self._count - 1
        self._close(status)
        for call in self._calls.values():
            self._end_call(call, status if call.index == last else "completed")

    def _delta(self, delta: Delta) -> None:
        if delta.reasoning:
            self._say("reasoning", delta.reasoning)
        if delta.extra and self._form.options.get("sealed") and (signed := _listed(delta.extra.get(BLOCKS))):
            self._sign(signed)
        if delta.text or delta.logprobs:
            self._say("output_text", delta.text, _listed((delta.logprobs or {}).get("content")))
        if delta.extra and (annotations := annotations_of(delta.extra)):
            self._annotate(annotations)
        if delta.refusal:
            self._say("refusal", delta.refusal)
        for call in delta.tool_calls:
            self._call(call)

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            response = response_object(self._form, "in_progress", [])
            self._event("response.created", response=response)
            self._event("response.in_progress", response=response)

    def _say(self, kind: str, text: str, logprobs: Sequence[Any] = ()) -> None:
        """A piece of a part of this kind."""
        self._begin()
        if self._part is None or self._part.kind != kind:
            self._open(kind)
        part = self._part
        assert part is not None
        part.text.append(text)
        part.logprobs += logprobs
        more = {"logprobs": list(logprobs)} if kind == "output_text" else {}
        self._event(f"response.{self._name(kind)}.delta", **self._place(part), delta=text, **more)

    def _sign(self, blocks: list[dict[str, Any]]) -> None:
        """What belongs to the thinking that is open, or to thinking that nobody may read."""
        self._begin()
        if self._part is None or self._part.kind != "reasoning":
            self._open("reasoning")
        assert self._part is not None
        self._part.signed += blocks

    def _annotate(self, annotations: Sequence[dict[str, Any]]) -> None:
        """What the text that is open, or that follows, rests on."""
        self._begin()
        if self._part is None or self._part.kind != "output_text":
            self._open("output_text")
        part = self._part
        assert part is not None
        for annotation in annotations:
            at = {**self._place(part), "annotation_index": len(part.annotations)}
            part.annotations.append(annotation)
            self._event("response.output_text.annotation.added", **at, annotation=annotation)

    def _open(self, kind: str) -> None:
        if kind == "reasoning":
            self._close()
            self._at = self._added(reasoning_item(self._form, self._count, "in_progress", None))
            self._part = _Part(kind, 0)
            self._event(f"response.{self._part_name()}.added", **self._place(self._part), part=self._reasoning(""))
            return
        self._close_part()
        if self._message is None:
            self._at = self._added(message_item(self._form, self._count, "in_progress", []))
            self._message = []
        self._part = _Part(kind, len(self._message))
        self._event("response.content_part.added", **self._place(self._part), part=_made(self._part))

    def _close(self, status: str = "completed") -> None:
        """End the part and the item that are open."""
        self._close_part(status)
        if self._message is not None:
            content, self._message = self._message, None
            self._done(self._at, message_item(self._form, self._at, status, content))

    def _close_part(self, status: str = "completed") -> None:
        part, self._part = self._part, None
        if part is None:
            return
        text, place = "".join(part.text), self._place(part)
        if part.kind == "reasoning":
            self._event(f"response.{self._name('reasoning')}.done", **place, text=text)
            self._event(f"response.{self._part_name()}.done", **place, part=self._reasoning(text))
            self._done(self._at, reasoning_item(self._form, self._at, status, text, part.signed))
            return
        made = _made(part)
        said = {"refusal": text} if part.kind == "refusal" else {"text": text, "logprobs": part.logprobs}
        self._event(f"response.{part.kind}.done", **place, **said)
        self._event("response.content_part.done", **place, part=made)
        if self._message is not None:
            self._message.append(made)

    def _call(self, delta: ToolCallDelta) -> None:
        self._begin()
        call = self._calls.get(delta.index)
        if call is None:
            self._close()
            call = _Call(self._count, delta.id or "", delta.name or "", delta.type == "custom")
            self._calls[delta.index] = call
            self._added(self._item(call, "in_progress", ""))
        if delta.arguments:
            call.arguments.append(delta.arguments)
            if call.native:
                self._event("response.custom_tool_call_input.delta", **self._of(call), delta=delta.arguments)
            elif not self._is_custom(call):
                self._event("response.function_call_arguments.delta", **self._of(call), delta=delta.arguments)

    def _end_call(self, call: _Call, status: str) -> None:
        """The whole call. What was cut off is no input: clients act on that event."""
        arguments, place = "".join(call.arguments), self._of(call)
        item = self._item(call, status, arguments)
        if status == "completed" and self._is_custom(call):
            if not call.native:
                self._event("response.custom_tool_call_input.delta", **place, delta=item["input"])
            self._event("response.custom_tool_call_input.done", **place, input=item["input"])
        elif status == "completed":
            self._event("response.function_call_arguments.done", **place, name=call.name, arguments=arguments)
        self._done(call.index, item)

    def _is_custom(self, call: _Call) -> bool:
        return call.native or is_custom(self._form, call.name)

    def _item(self, call: _Call, status: str, arguments: str) -> dict[str, Any]:
        if not self._is_custom(call):
            return call_item(self._form, call.index, status, call.call_id, call.name, arguments)
        text = arguments if call.native else custom_input(arguments)
        return custom_item(self._form, call.index, status, call.call_id, call.name, text)

    def _added(self, item: dict[str, Any]) -> int:
        index, self._count = self._count, self._count + 1
        self._event("response.output_item.added", output_index=index, item=item)
        return index

    def _done(self, index: int, item: dict[str, Any]) -> None:
        self._items[index] = item
        self._event("response.output_item.done", output_index=index, item=item)

    def _place(self, part: _Part) -> dict[str, Any]:
        form, at = self._form, self._at
        if part.kind != "reasoning":
            return {"item_id": f"msg_{form.request_id}_{at}", "output_index": at, "content_index": part.index}
        place = {"item_id": f"rs_{form.request_id}_{at}", "output_index": at}
        return place | ({"summary_index": 0} if summarised(form) else {"content_index": 0})

    def _of(self, call: _Call) -> dict[str, Any]:
        prefix = "ctc" if self._is_custom(call) else "fc"
        return {"item_id": f"{prefix}_{self._form.request_id}_{call.index}", "output_index": call.index}

    def _name(self, kind: str) -> str:
        if kind != "reasoning":
            return kind
        return "reasoning_summary_text" if summarised(self._form) else "reasoning_text"

    def _part_name(self) -> str:
        return "reasoning_summary_part" if summarised(self._form) else "content_part"

    def _reasoning(self, text: str) -> dict[str, Any]:
        return {"type": "summary_text" if summarised(self._form) else "reasoning_text", "text": text}

    def _event(self, type_: str, **fields: Any) -> None:
        value = {"type": type_, "sequence_number": self._number, **fields}
        self._number += 1
        self._out.append(b"event: " + type_.encode() + b"\ndata: " + orjson.dumps(value) + b"\n\n")

    def _taken(self) -> bytes:
        out, self._out = b"".join(self._out), []
        return out


class _Silent(ResponsesStream):
    """The items of a response, without events."""

    def _event(self, type_: str, **fields: Any) -> None:
        """Nobody listens."""


def _listed(given: Any) -> list[Any]:
    """A list of the upstream's; empty where what it calls so is none."""
    return given if isinstance(given, list) else []


class ResponsesBody:
    """Renders the whole object: what the last event of its stream would have."""

    def __init__(self, form: Form) -> None:
        self._response = _Silent(form)

    def pieces(self, pieces: Sequence[Piece]) -> bytes:
        """Nothing: a response is released whole."""
        return self._response.pieces(pieces)

    def completed(self, fold: Fold) -> bytes:
        """The object."""
        return orjson.dumps(self._response.ended(fold))

    def failed(self, error: Mapping[str, Any]) -> bytes:
        """The object of a response that failed, with what it had by then."""
        return orjson.dumps(self._response.broken(error))


def _made(part: _Part) -> dict[str, Any]:
    text = "".join(part.text)
    return refusal_part(text) if part.kind == "refusal" else text_part(text, part.logprobs, part.annotations)
