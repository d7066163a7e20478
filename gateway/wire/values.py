"""What upstream frames mean, whatever their format: deltas, and their fold into whole messages.

The words are OpenAI's chat completions' words, because that is the format most clients read; each family's decoder
translates into them once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from eventstore.catalogue.values import Usage
from eventstore.frames import Part, Template


class WireError(Exception):
    """The bytes are not what the format allows. `message` is safe to show: it quotes no credential."""


class Unsupported(Exception):
    """The family cannot carry a field that would change the answer. `param` names it, as a JSON path."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


class Undirected(Unsupported):
    """The family has tools, and no word for how they are to be used. A prompt has."""


@dataclass(slots=True)
class ToolCallDelta:
    """A piece of a tool call. `index` counts calls of the choice; `id` and `name` come once, with the first piece.
    `arguments` is a piece of text."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    type: str = "function"


@dataclass(slots=True)
class Delta:
    """What one frame adds to one choice. `extra` are further keys of OpenAI's `delta`, carried as they are
    (`annotations`, `reasoning_details`, `audio`…); `logprobs` likewise."""

    choice: int = 0
    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: Sequence[ToolCallDelta] = ()
    finish_reason: str | None = None
    logprobs: Any = None
    extra: dict[str, Any] | None = None


@dataclass(slots=True)
class TextRun:
    """Several frames of plain text for choice 0, by the fast lane: `escaped` is each frame's text as it stands between
    the quotes of a JSON string (valid UTF-8, valid escapes), joined by `eventstore.frames.SEP`; `text` is all of it,
    decoded."""

    escaped: bytes
    text: str


@dataclass(slots=True)
class UpstreamError:
    """An error that the upstream reported. `kind` is one of `gateway.errors`' words; `status` the HTTP status it
    amounts to; `code`, `param`, `type` as the provider said, in OpenAI's words where there is a translation."""

    message: str
    status: int
    kind: str = "upstream_error"
    type: str | None = None
    code: str | None = None
    param: str | None = None


MOST_TOKENS = 10**8
"""More than any model's context. A count beyond it is a fault of the upstream, and would burst the sums of reports."""


def count(value: Any) -> int:
    """A count that an upstream reported; 0 for what is no count, or beyond `MOST_TOKENS`. JSON has one kind of number:
    `10.0` is one."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 < value <= MOST_TOKENS else 0


def unreadable(value: Any) -> bool:
    """Whether an upstream meant to report a count here, and did not."""
    return value is not None and value != 0 and not count(value)


@dataclass(slots=True)
class Meta:
    """What a frame says about the whole answer; None where it says nothing. `usage_raw` replaces earlier ones.
    `top` are top-level keys to carry to an OpenAI-shaped client (`system_fingerprint`, `citations`, …)."""

    usage: Usage | None = None
    usage_raw: dict[str, Any] | None = None
    usage_estimated: bool = False
    cost_reported: str | None = None
    model: str | None = None
    id: str | None = None
    error: UpstreamError | None = None
    ended: bool = False
    top: dict[str, Any] | None = None


@dataclass(slots=True)
class Body:
    """A whole answer that is no chat (vectors, an image, speech): the bytes that its dialect's renderer reads."""

    data: bytes


@dataclass(slots=True)
class Raw:
    """A frame as it came, for a caller who speaks the upstream's own protocol; what it means comes beside it."""

    frame: bytes


Piece = Delta | TextRun | Body | Raw | Meta
"""What decoding yields, in the order of the frames."""


class Decoder(Protocol):
    """Frames of one generation in, pieces out. Stateful; named and versioned for ever in `generation_started`.

    A stream is whole when a piece said so: `complete` is True after the format's proper end (a `finish_reason` or the
    end mark), and False where the upstream was cut.
    """

    name: str

    @property
    def complete(self) -> bool: ...

    def template(self, frames: Sequence[bytes], known: Template | None) -> tuple[int, Template] | None:
        """The first of these frames whose ends can be the run's next template, if any: one without the ends that are
        `known`, that adds to nothing but one text (of choice 0, of reasoning, of a call's arguments), so that only what
        stands between the ends changes. None where the format has no such frames, or too many were looked at."""

    def decode(self, parts: Sequence[Part], template: Template | None) -> list[Piece]:
        """The meaning of the next frames, as `FrameRun.pack` gave them: whole, or as middles of the template.

        Raises `WireError` for what the format does not allow.
        """


class Framer(Protocol):
    """Bytes as they arrive in, whole frames out. Split-proof: any cut of the same bytes gives the same frames."""

    def feed(self, data: bytes) -> list[bytes]:
        """The frames completed by these bytes. Raises `WireError` for a frame over the format's bound."""

    def end(self) -> list[bytes]:
        """What is left when the upstream ended: a last frame without its terminator, or nothing."""


@dataclass(slots=True)
class _Call:
    id: str
    name: str
    type: str
    arguments: list[str]


@dataclass(slots=True)
class _Choice:
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    calls: dict[int, _Call] = field(default_factory=dict)
    finish_reason: str | None = None
    logprobs: dict[str, Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict)


class Fold:
    """The whole answer, folded from pieces."""

    def __init__(self) -> None:
        self._choices: dict[int, _Choice] = {}
        self._first: _Choice | None = None
        self._whole: list[dict[str, Any]] | None = None
        self.meta = Meta()
        self.body: bytes | None = None
        self.began = False

    def add(self, pieces: Sequence[Piece]) -> None:
        """Take the next pieces, in order."""
        self._whole = None
        for piece in pieces:
            if type(piece) is TextRun:
                choice = self._first or self._choice(0)
                choice.text.append(piece.text)
                self.began = True
            elif type(piece) is Delta:
                self._add_delta(piece)
            elif type(piece) is Meta:
                self._add_meta(piece)
            elif type(piece) is Body:
                self.body, self.began = piece.data, True

    def _choice(self, index: int) -> _Choice:
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice()
            if index == 0:
                self._first = choice
        return choice

    def _add_delta(self, delta: Delta) -> None:
        choice = self._choice(delta.choice)
        if delta.text:
            choice.text.append(delta.text)
        if delta.reasoning:
            choice.reasoning.append(delta.reasoning)
        if delta.refusal:
            choice.refusal.append(delta.refusal)
        for part in delta.tool_calls:
            call = choice.calls.get(part.index)
            if call is None:
                call = choice.calls[part.index] = _Call(part.id or "", part.name or "", part.type, [])
            call.arguments.append(part.arguments)
        if delta.finish_reason is not None:
            choice.finish_reason = delta.finish_reason
        if delta.logprobs:
            choice.logprobs = choice.logprobs or {}
            _merge(choice.logprobs, delta.logprobs)
        if delta.extra:
            _merge(choice.extra, delta.extra)
        if delta.text or delta.reasoning or delta.refusal or delta.tool_calls:
            self.began = True

    def _add_meta(self, meta: Meta) -> None:
        mine = self.meta
        if meta.usage is not None:
            mine.usage, mine.usage_estimated = meta.usage, meta.usage_estimated
        if meta.usage_raw is not None:
            mine.usage_raw = meta.usage_raw
        if meta.cost_reported is not None:
            mine.cost_reported = meta.cost_reported
        if meta.model is not None:
            mine.model = meta.model
        if meta.id is not None:
            mine.id = meta.id
        if meta.error is not None:
            mine.error = meta.error
        if meta.ended:
            mine.ended = True
        if meta.top:
            mine.top = mine.top or {}
            mine.top.update(meta.top)

    def estimate(self, usage: Usage) -> None:
        """What it took, where its provider did not say."""
        self.meta.usage, self.meta.usage_estimated = usage, True

    @property
    def finish_reason(self) -> str | None:
        """Of the first choice that has one."""
        if self._first is not None and self._first.finish_reason:
            return self._first.finish_reason  # no choice comes before it
        return next((c.finish_reason for _, c in sorted(self._choices.items()) if c.finish_reason), None)

    def text_length(self) -> int:
        """Characters of text, reasoning, refusal and arguments so far, over all choices (for estimates)."""
        return sum(
            sum(map(len, c.text))
            + sum(map(len, c.reasoning))
            + sum(map(len, c.refusal))
            + sum(len(a) for call in c.calls.values() for a in call.arguments)
            for c in self._choices.values()
        )

    def choices(self) -> list[dict[str, Any]]:
        """`[{index, message, finish_reason, logprobs?}]`, messages in OpenAI's shape. Do not change it: it is kept."""
        if self._whole is None:
            self._whole = [_choice_value(index, choice) for index, choice in sorted(self._choices.items())]
        return self._whole


def _choice_value(index: int, choice: _Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(choice.text) or None}
    if not choice.text and not choice.calls and not choice.refusal:
        message["content"] = ""
    message["refusal"] = "".join(choice.refusal) or None
    if choice.reasoning:
        message["reasoning_content"] = "".join(choice.reasoning)
    if choice.calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": call.type,
                ("custom" if call.type == "custom" else "function"): {
                    "name": call.name,
                    ("input" if call.type == "custom" else "arguments"): "".join(call.arguments),
                },
            }
            for _, call in sorted(choice.calls.items())
        ]
    message.update(choice.extra)
    value: dict[str, Any] = {"index": index, "message": message, "finish_reason": choice.finish_reason}
    if choice.logprobs is not None:
        value["logprobs"] = choice.logprobs
    return value


_GROWING = frozenset({"data", "transcript", "text", "summary", "arguments"})
"""Texts that come in pieces: of audio, of reasoning details, of the old `function_call`."""


def _merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    """Streamed extras: lists grow, texts grow, objects merge, the rest is replaced; nothing replaces nothing. What
    `more` holds stays as it is: it is still to be shown."""
    for key, value in more.items():
        old = into.get(key)
        if value is None and old is not None:
            continue
        if isinstance(old, list) and isinstance(value, list):
            old += value
        elif isinstance(old, str) and isinstance(value, str) and key in _GROWING:
            into[key] = old + value
        elif isinstance(old, dict) and isinstance(value, dict):
            _merge(old, value)
        else:
            into[key] = _own(value)


def _own(value: Any) -> Any:
    """A copy that can grow."""
    if isinstance(value, dict):
        return {key: _own(each) for key, each in value.items()}
    return [*value] if isinstance(value, list) else value
