"""The other way: tool calls as text in the content, for clients that look for them there. Only where it was asked for.

agent_format   a call in the content
qwen3          <|tool_call|>{"name": …, "arguments": …}</|tool_call|>
llama3         <function_call>…</function_call>
xml            <tool_call>…</tool_call>
gemma          ```tool_code … ```
START,END      START…END
auto           as the server's default says, which is none
openai, codex, passthrough: as standard tool calls
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from gateway.errors import InvalidRequest
from gateway.wire.dialect import Renderer
from gateway.wire.values import Delta, Fold, Piece, TextRun, ToolCallDelta

Tags = tuple[str, str]
"""What stands before and after a call's JSON."""

TAGS: Mapping[str, Tags] = {
    "qwen3": ("<|tool_call|>", "</|tool_call|>"),
    "llama3": ("<function_call>", "</function_call>"),
    "xml": ("<tool_call>", "</tool_call>"),
    "gemma": ("```tool_code\n", "\n```"),
}
STANDARD = ("auto", "codex", "openai", "passthrough")
LONGEST = 64
"""Characters of a tag of one's own."""


def tags_of(said: Any) -> Tags | None:
    """The tags that an `agent_format` means, None for standard tool calls. Raises `InvalidRequest`."""
    if said is None or said in STANDARD:
        return None
    if isinstance(said, str):
        if said in TAGS:
            return TAGS[said]
        start, comma, end = (part.strip() for part in said.partition(","))
        if comma and 0 < len(start) <= LONGEST and 0 < len(end) <= LONGEST:
            return start, end
    known = ", ".join([*TAGS, *STANDARD])
    raise InvalidRequest(f"agent_format must be one of {known}, or two tags as START,END.", param="agent_format")


class TaggedRenderer(Renderer):
    """An answer of `inner`, its tool calls as text. Arguments stream as they come; a call that begins while another is
    not whole waits for its turn."""

    def __init__(self, inner: Renderer, tags: Tags) -> None:
        self._inner, self._tags = inner, tags
        self._choices: dict[int, _Choice] = {}
        self._fold = Fold()

    def pieces(self, pieces: Sequence[Piece]) -> bytes:
        told = [self._told(piece) for piece in pieces]
        self._fold.add(told)
        return self._inner.pieces(told)

    def completed(self, fold: Fold) -> bytes:
        rest = [Delta(choice=index, text=text) for index, choice in self._choices.items() if (text := choice.end())]
        self._fold.add(rest)
        self._fold.meta = fold.meta
        return self._inner.pieces(rest) + self._inner.completed(self._fold)

    def failed(self, error: Mapping[str, Any]) -> bytes:
        return self._inner.failed(error)

    def _told(self, piece: Piece) -> Piece:
        if type(piece) is Delta:
            return self._delta(piece)
        if type(piece) is TextRun:
            self._choice(0).follow(piece.text)
        return piece

    def _choice(self, index: int) -> _Choice:
        if index not in self._choices:
            self._choices[index] = _Choice(self._tags)
        return self._choices[index]

    def _delta(self, delta: Delta) -> Delta:
        choice = self._choice(delta.choice)
        choice.follow(delta.text)
        text = delta.text + "".join(choice.call(call) for call in delta.tool_calls)
        reason = delta.finish_reason
        if reason is not None:
            text += choice.end()
        return replace(delta, text=text, tool_calls=(), finish_reason="stop" if reason == "tool_calls" else reason)


class _Choice:
    """The calls of one choice, being written."""

    def __init__(self, tags: Tags) -> None:
        self._start, self._end = tags
        self._last = "\n"
        self._open: int | None = None
        self._custom = False
        self._arguments: list[str] = []
        self._closed: set[int] = set()
        self._waiting: dict[int, list[ToolCallDelta]] = {}

    def follow(self, text: str) -> None:
        """Text goes out that is no call."""
        self._last = text[-1:] or self._last

    def call(self, delta: ToolCallDelta) -> str:
        """The text that a piece of a call adds now."""
        if delta.index in self._closed:
            return ""
        out = ""
        if self._open is not None and delta.index != self._open and not self._waiting and self._whole():
            out = self._close()
        if self._open is None:
            out += self._begin(delta)
        elif delta.index != self._open:
            self._waiting.setdefault(delta.index, []).append(delta)
            return out
        return out + self._more(delta.arguments)

    def end(self) -> str:
        """The rest: the end of the call at hand, and those that waited."""
        out = "" if self._open is None else self._close()
        waiting, self._waiting = self._waiting, {}
        for _, deltas in sorted(waiting.items()):
            out += "".join(self.call(delta) for delta in deltas) + self._close()
        return out

    def _begin(self, delta: ToolCallDelta) -> str:
        self._open, self._custom, self._arguments = delta.index, delta.type == "custom", []
        line = "" if self._last == "\n" else "\n"
        return f'{line}{self._start}{{"name": {_json(delta.name or "")}, "arguments": {self._quote()}'

    def _more(self, arguments: str) -> str:
        self._arguments.append(arguments)
        return _json(arguments)[1:-1] if self._custom else arguments

    def _close(self) -> str:
        assert self._open is not None
        self._closed.add(self._open)
        self._open = None
        nothing = "" if self._custom or any(self._arguments) else "{}"
        self._last = self._end[-1]
        return f"{nothing}{self._quote()}}}{self._end}"

    def _quote(self) -> str:
        """Around the input of a custom tool, which is text."""
        return '"' if self._custom else ""

    def _whole(self) -> bool:
        """Whether the call at hand can have no more arguments."""
        try:
            orjson.loads("".join(self._arguments))
        except orjson.JSONDecodeError:
            return False
        return not self._custom


def _json(value: str) -> str:
    return orjson.dumps(value).decode()
