"""Anthropic Messages, read: the event stream and the whole body of this API.

Format: https://docs.anthropic.com/en/api/messages-streaming. A message is a list of blocks; in a stream each block is
started, filled by deltas and stopped, and the message is whole only after `message_stop`. `ping` may come anywhere.

Translation: text -> text; thinking -> reasoning, and each finished, signed block again in `extra.thinking_blocks`, as
it must be sent back in tool loops; tool_use -> tool calls; citations -> `extra.citations`; blocks that the provider's
own tools made -> `extra.content_blocks`; a stop reason that OpenAI has no word for -> also `extra.stop_reason`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from eventstore.frames import Middles, Part, Template
from gateway.wire import exact
from gateway.wire.anthropic_blocks import placed
from gateway.wire.anthropic_outcome import error_of, finish_of, given, usage_of
from gateway.wire.fastlane import Templates, find_template, first_frame, loads_lenient, read_run, whole_frames
from gateway.wire.sse import events_in, read_frame
from gateway.wire.values import Delta, Meta, Piece, ToolCallDelta, WireError
from gateway.wire.whole_body import WholeDecoder, is_body


@dataclass(slots=True)
class _Block:
    """A block between its start and its stop. `text` counts the characters and `call` the tool calls before it; `parts`
    are its input or thinking."""

    value: dict[str, Any]
    text: int = 0
    call: int = 0
    parts: list[str] = field(default_factory=list)
    signature: str = ""

    @property
    def kind(self) -> Any:
        """Its type, a word of the API."""
        return self.value.get("type")

    def take(self, part: Any) -> str:
        """A piece of it, kept for its end."""
        said = str(part or "")
        if said:
            self.parts.append(said)
        return said


class MessagesStreamDecoder:
    """Reads the event stream of one message."""

    name = "anthropic_messages_stream.1"
    __slots__ = ("_blocks", "_calls", "_length", "_plain", "_stopped", "_templates", "_usage")

    def __init__(self) -> None:
        self._blocks: dict[int, _Block] = {}
        self._calls = self._length = 0
        self._usage: dict[str, Any] = {}
        self._stopped = False
        self._templates = Templates(_template, _A_TEXT)
        self._plain: Template | None = None

    @property
    def complete(self) -> bool:
        """True after `message_stop`."""
        return self._stopped

    def template(self, frames: Sequence[bytes], known: Template | None) -> tuple[int, Template] | None:
        return self._templates.next(frames, known)

    def decode(self, parts: Sequence[Part], template: Template | None) -> list[Piece]:
        pieces: list[Piece] = []
        text = template if template is not None and template.prefix.endswith(_ANSWER) else None
        for part in parts:
            if isinstance(part, bytes):
                pieces += self._frame(part)
            elif text and self._is_plain(part, text) and (run := read_run(part)):
                pieces.append(run)
                self._length += len(run.text)
            else:
                for frame in whole_frames(part, template):
                    pieces += self._frame(frame)
        return pieces

    def _is_plain(self, part: Middles, template: Template) -> bool:
        """Whether frames of this template are of a block that has begun: one of them is looked at, and again behind any
        block that ended."""
        if template is not self._plain:
            event = loads_lenient(read_frame(first_frame(part, template))[1] or b"null")
            if _index(_object(event)) not in self._blocks:
                return False
            self._plain = template
        return True

    def _frame(self, frame: bytes) -> list[Piece]:
        _, data = read_frame(frame)
        if data is None:
            return self._whole(frame) if is_body(frame) else []
        event = _object(loads_lenient(data))
        match event.get("type"):
            case "content_block_delta":
                return self._block_delta(event)
            case "content_block_start":
                return self._block_start(event, data)
            case "content_block_stop":
                return self._block_stop(event)
            case "message_start":
                return self._message_start(_object(event.get("message")))
            case "message_delta":
                return self._message_delta(event)
            case "message_stop":
                self._stopped = True
                return [Meta(ended=True)]
            case "error":
                return [Meta(error=error_of(event.get("error"), None))]
        return []  # ping, and events of later versions, which the API's versioning policy announces

    def _whole(self, frame: bytes) -> list[Piece]:
        """All of it in one body, or an error, though a stream was asked for."""
        whole = MessagesBodyDecoder()
        pieces = whole.body(frame)
        self._stopped = whole.complete
        return pieces

    def _message_start(self, message: dict[str, Any]) -> list[Piece]:
        """The prompt is counted here; the answer's count is a placeholder until `message_delta`."""
        self._usage = given(message.get("usage"))
        return [
            Meta(
                id=_word(message.get("id")),
                model=_word(message.get("model")),
                usage=usage_of(self._usage),
                usage_raw=dict(self._usage),
                usage_estimated=True,
            )
        ]

    def _message_delta(self, event: dict[str, Any]) -> list[Piece]:
        """Its counts are cumulative: each replaces what was said before."""
        self._usage |= given(event.get("usage"))
        pieces: list[Piece] = [Meta(usage=usage_of(self._usage), usage_raw=dict(self._usage))]
        delta = _object(event.get("delta"))
        if delta.get("stop_reason") is not None:
            pieces.append(finish_of(delta))
        return pieces

    def _block_start(self, event: dict[str, Any], data: bytes) -> list[Piece]:
        block = _Block(_object(event.get("content_block")), self._length, self._calls)
        self._blocks[_index(event)] = block
        if block.kind == "text":
            return self._text(block.value, _citations(block.value))
        if block.kind == "thinking":
            return _said(Delta(reasoning=block.take(block.value.get("thinking"))))
        if block.kind != "tool_use":
            return []
        block.value = exact.loads(data)["content_block"]
        self._calls += 1
        return [Delta(tool_calls=[_call(block.call, block.value)])]

    def _block_delta(self, event: dict[str, Any]) -> list[Piece]:
        delta = _object(event.get("delta"))
        block = self._blocks.get(_index(event))
        if block is None:
            raise WireError("the upstream sent a piece of a block that it did not start")
        match delta.get("type"):
            case "text_delta":
                return self._text(delta, None)
            case "thinking_delta":
                return _said(Delta(reasoning=block.take(delta.get("thinking"))))
            case "signature_delta":
                block.signature += str(delta.get("signature") or "")
            case "input_json_delta":
                part = block.take(delta.get("partial_json"))
                if part and block.kind == "tool_use":
                    return [Delta(tool_calls=[ToolCallDelta(block.call, arguments=part)])]
            case "citations_delta":
                return [Delta(extra={"citations": [delta.get("citation")]})]
        return []

    def _text(self, said: Mapping[str, Any], extra: dict[str, Any] | None) -> list[Piece]:
        text = str(said.get("text") or "")
        self._length += len(text)
        return _said(Delta(text=text, extra=extra))

    def _block_stop(self, event: dict[str, Any]) -> list[Piece]:
        self._plain = None
        block = self._blocks.pop(_index(event), None)
        if block is None or block.kind == "text":
            return []
        if block.kind == "tool_use":
            return [] if block.parts else [_all_arguments(block)]
        whole = "".join(block.parts)
        if block.kind == "thinking":
            return _thinking(whole, block.signature or block.value.get("signature"), block.text, block.call)
        if whole:
            block.value["input"] = loads_lenient(whole.encode())
        return [_other_block(block.value, block.text, block.call)]


class MessagesBodyDecoder(WholeDecoder):
    """Reads one whole message, the single frame of an answer that was not streamed."""

    name = "anthropic_messages_body.1"
    __slots__ = ()

    def body(self, frame: bytes) -> list[Piece]:
        if (events := events_in(frame)) is not None:
            return self._streamed(MessagesStreamDecoder(), events)
        body = _object(loads_lenient(frame))
        if body.get("type") == "error":
            return [Meta(error=error_of(body.get("error"), None))]
        content = body.get("content")
        if not isinstance(content, list):
            raise WireError("the upstream's answer has no content")
        usage = given(body.get("usage"))
        pieces: list[Piece] = [
            Meta(id=_word(body.get("id")), model=_word(body.get("model")), usage=usage_of(usage), usage_raw=usage),
            *_content(content, frame),
        ]
        if body.get("stop_reason") is not None:
            self._finished = True
            pieces.append(finish_of(body))
        return pieces


def _content(content: list[Any], frame: bytes) -> list[Piece]:
    """The blocks of a whole message; calls are read again, for the numbers of their arguments."""
    pieces: list[Piece] = []
    length = calls = 0
    for position, block in enumerate(content):
        match _object(block).get("type"):
            case "text":
                text = str(block.get("text") or "")
                pieces += _said(Delta(text=text, extra=_citations(block)))
                length += len(text)
            case "thinking":
                pieces += _said(Delta(reasoning=str(block.get("thinking") or "")))
                pieces += _thinking(block.get("thinking"), block.get("signature"), length, calls)
            case "tool_use":
                arguments = _arguments(exact.loads(frame)["content"][position])
                pieces.append(Delta(tool_calls=[_call(calls, block, arguments)]))
                calls += 1
            case _:
                pieces.append(_other_block(block, length, calls))
    return pieces


def _call(index: int, block: Mapping[str, Any], arguments: str = "") -> ToolCallDelta:
    return ToolCallDelta(index, _word(block.get("id")), _word(block.get("name")), arguments)


def _all_arguments(block: _Block) -> Delta:
    """Of a call that streamed none: what its start said, usually nothing, which is `{}`."""
    return Delta(tool_calls=[ToolCallDelta(block.call, arguments=_arguments(block.value))])


def _arguments(block: Mapping[str, Any]) -> str:
    return exact.dumps(block.get("input") or {})


def _thinking(thought: Any, signature: Any, text: int, calls: int) -> list[Piece]:
    """A finished thinking block, after so much text and so many calls, if it is signed: without a signature it cannot
    be sent back."""
    if not signature:
        return []
    block = {"type": "thinking", "thinking": thought or "", "signature": signature}
    return [Delta(extra={"thinking_blocks": [placed(block, text, calls)]})]


def _other_block(block: dict[str, Any], text: int, calls: int) -> Delta:
    """Redacted thinking belongs to the thinking; the rest is what the provider's own tools did."""
    if block.get("type") == "redacted_thinking":
        return Delta(extra={"thinking_blocks": [placed(block, text, calls)]})
    return Delta(extra={"content_blocks": [block]})


def _citations(block: Mapping[str, Any]) -> dict[str, Any] | None:
    citations = block.get("citations")
    return {"citations": citations} if citations else None


def _said(delta: Delta) -> list[Piece]:
    """The delta, unless it says nothing."""
    return [delta] if delta.text or delta.reasoning or delta.tool_calls or delta.extra else []


def _template(frame: bytes) -> Template | None:
    """The template that a frame gives, if it adds to one text."""
    key, text = _only_text(frame) or ("", "")
    return find_template(frame, text, key.encode()) if text else None


def _only_text(frame: bytes) -> tuple[str, str] | None:
    """The key and the text of a frame that adds to one text and to nothing else."""
    _, data = read_frame(frame)
    try:
        event = orjson.loads(data or b"null")
    except orjson.JSONDecodeError:
        return None
    delta = event.get("delta") if isinstance(event, dict) and event.get("type") == "content_block_delta" else None
    key = _DELTAS.get(str(delta.get("type"))) if isinstance(delta, dict) else None
    if not isinstance(delta, dict) or delta.keys() != {"type", key} or not isinstance(delta[key], str):
        return None
    return str(key), delta[key]


_DELTAS = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
_A_TEXT = re.compile(rb'"(?:text|thinking|partial_json)": ?"(?!")')
_ANSWER = (b'"text":"', b'"text": "')
"""Where a template's prefix ends if that is the answer's own."""


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise WireError("the upstream sent a message of another shape than its API says")
    return value


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _index(event: Mapping[str, Any]) -> int:
    index = event.get("index")
    if not isinstance(index, int):
        raise WireError("the upstream sent a block without an index")
    return index
