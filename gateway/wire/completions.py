"""The old completions as a caller's protocol: a prompt in, its continuation out.

https://platform.openai.com/docs/api-reference/completions. A model that only chats is given the prompt as one message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import orjson
from pydantic import ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from eventstore.frames import SEP
from gateway.errors import UnsupportedParameter, openai_error_body
from gateway.wire.dialect import Dialect, Form, Renderer
from gateway.wire.openai_chat_answer import DONE, EMPTY_CHOICE, usage_object
from gateway.wire.openai_chat_request import Credential, Number, Text, validate
from gateway.wire.values import Delta, Fold, Piece, TextRun

NO_CHAT = ("suffix", "logprobs", "best_of")
"""What changes the answer and cannot be said as chat."""

LONGEST_ECHO = 64 * 1024
"""Characters."""


@with_config(ConfigDict(extra="allow", strict=True))
class _StreamOptions(TypedDict, total=False):
    include_usage: bool | None


@with_config(ConfigDict(extra="allow", strict=True))
class CompletionsRequest(TypedDict, total=False):
    """An old completion: the fields that are checked. Others pass."""

    model: Text | None
    prompt: (
        str
        | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
        | Annotated[list[str], Field(min_length=1)]
        | Annotated[list[list[Annotated[int, Field(ge=0)]]], Field(min_length=1)]
        | None
    )
    stream: bool | None
    stream_options: _StreamOptions | None
    max_tokens: int | None
    temperature: Number | None
    top_p: Number | None
    n: int | None
    best_of: int | None
    logprobs: int | None
    echo: bool | None
    suffix: str | None
    stop: str | list[str] | None
    seed: int | None
    presence_penalty: Number | None
    frequency_penalty: Number | None
    logit_bias: dict[str, Number] | None
    user: str | None
    metadata: dict[str, str] | None
    api_key: Credential | None
    base_url: str | None
    session_id: str | None


_ADAPTER: TypeAdapter[CompletionsRequest] = TypeAdapter(CompletionsRequest)


def echoed(body: Mapping[str, Any]) -> str:
    """The prompt, where the answer begins with it and we can say it ourselves; with `logprobs` only the model can, and
    what is too long to be recorded once more only the model does."""
    prompt = _alone(body.get("prompt"))
    if not body.get("echo") or body.get("logprobs") is not None or not isinstance(prompt, str):
        return ""
    return prompt if len(prompt) <= LONGEST_ECHO else ""


def prompts_of(body: Mapping[str, Any]) -> int:
    """How many prompts a request has, each with choices of its own: a list of numbers is one."""
    prompt = body.get("prompt")
    return sum(isinstance(each, str | list) for each in prompt) or 1 if isinstance(prompt, list) else 1


class CompletionsDialect(Dialect):
    """`text_completion` objects."""

    wire = "completions"
    version = 1

    def check(self, body: Mapping[str, Any]) -> None:
        validate(_ADAPTER, body)

    def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        for name in NO_CHAT:
            if body.get(name) not in (None, 0, "") and not (name == "best_of" and body[name] == 1):
                raise UnsupportedParameter(f"This model only chats: it takes no '{name}'.", param=name)
        text = _one_text(body.get("prompt"))
        if body.get("echo") and len(text) > LONGEST_ECHO:
            raise UnsupportedParameter(
                f"This model only chats: it echoes prompts of up to {LONGEST_ECHO:,} characters.", param="echo"
            )
        said = {name: value for name, value in body.items() if name not in ("prompt", "echo", *NO_CHAT)}
        return said | {"messages": [{"role": "user", "content": text}]}

    def options(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        prompt = echoed(body)
        return {"echo": prompt} if prompt else None

    def renderer(self, form: Form) -> Renderer:
        return CompletionsStream(form) if form.streamed else CompletionsBody(form)

    def error_body(self, status: int, error: Mapping[str, Any]) -> bytes:
        return orjson.dumps(openai_error_body(error))


def _one_text(prompt: Any) -> str:
    prompt = _alone(prompt)
    if not isinstance(prompt, str | None):
        raise UnsupportedParameter("This model only chats: it takes one prompt, as text.", param="prompt")
    return prompt or ""


def _alone(prompt: Any) -> Any:
    return prompt[0] if isinstance(prompt, list) and len(prompt) == 1 else prompt


def _head(form: Form) -> dict[str, Any]:
    return {"id": f"cmpl-{form.request_id}", "object": "text_completion", "created": form.created, "model": form.model}


_REASONS = frozenset({"stop", "length", "content_filter"})
"""Why a completion ends: it cannot call tools."""


def _choice(index: int, text: str, reason: str | None, logprobs: Any = None) -> dict[str, Any]:
    reason = reason if reason is None or reason in _REASONS else "stop"
    return {"text": text, "index": index, "logprobs": logprobs, "finish_reason": reason}


class CompletionsStream:
    """Renders pieces to SSE. The finish reason of a choice comes once, last."""

    def __init__(self, form: Form) -> None:
        self._head = b"data: " + orjson.dumps(_head(form))[:-1]
        self._usage, self._echo = form.include_usage, str(form.options.get("echo", ""))
        self._tail = b',"usage":null}\n\n' if form.include_usage else b"}\n\n"
        self._reasons: dict[int, str] = {}

    def pieces(self, pieces: Sequence[Piece]) -> bytes:
        """The bytes that these pieces add."""
        return b"".join(self._piece(piece) for piece in pieces)

    def completed(self, fold: Fold) -> bytes:
        """Finish reasons, usage if it was asked for, the end mark."""
        out = b"" if self._reasons else self._opened(0)
        for index, reason in sorted(self._reasons.items()):
            out += self._chunk(_choice(index, "", reason))
        if self._usage:
            out += self._head + b',"choices":[],"usage":' + orjson.dumps(usage_object(fold)) + b"}\n\n"
        return out + DONE

    def failed(self, error: Mapping[str, Any]) -> bytes:
        """A frame that clients raise on, and no end mark."""
        return b"data: " + orjson.dumps(openai_error_body(error)) + b"\n\n"

    def _piece(self, piece: Piece) -> bytes:
        if isinstance(piece, TextRun):
            texts = [orjson.loads(b'"' + text + b'"') for text in piece.escaped.split(SEP)]
            return self._opened(0) + b"".join(self._chunk(_choice(0, text, None)) for text in texts)
        if not isinstance(piece, Delta):
            return b""
        out = self._opened(piece.choice)
        if piece.text or piece.logprobs:
            out += self._chunk(_choice(piece.choice, piece.text, None, piece.logprobs))
        if piece.finish_reason is not None:
            self._reasons[piece.choice] = piece.finish_reason
        return out

    def _opened(self, index: int) -> bytes:
        """What comes before the first piece of a choice: the prompt, where it was asked for."""
        if index in self._reasons:
            return b""
        self._reasons[index] = "stop"
        return self._chunk(_choice(index, self._echo, None)) if self._echo else b""

    def _chunk(self, choice: dict[str, Any]) -> bytes:
        return self._head + b',"choices":[' + orjson.dumps(choice) + b"]" + self._tail


class CompletionsBody:
    """Renders a whole answer."""

    def __init__(self, form: Form) -> None:
        self._head, self._echo = _head(form), str(form.options.get("echo", ""))

    def pieces(self, pieces: Sequence[Piece]) -> bytes:
        """Nothing: a body is released whole."""
        return b""

    def completed(self, fold: Fold) -> bytes:
        """The body."""
        choices = [
            _choice(
                choice["index"],
                self._echo + (choice["message"]["content"] or ""),
                choice.get("finish_reason") or "stop",
                choice.get("logprobs"),
            )
            for choice in fold.choices() or (EMPTY_CHOICE,)
        ]
        return orjson.dumps({**self._head, "choices": choices, "usage": usage_object(fold)})

    def failed(self, error: Mapping[str, Any]) -> bytes:
        """The error body."""
        return orjson.dumps(openai_error_body(error))
