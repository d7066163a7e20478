"""Ollama's chat, read: lines of a stream, or one whole body, which is one such line.

Format: https://docs.ollama.com/api/chat. Each line has the next piece of the message; tool calls come whole, their
arguments as objects, with or without ids, on a line before the last; the last line has `done: true` and the counts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from eventstore.catalogue.values import Usage
from eventstore.frames import SEP, Middles, Part, Template
from gateway.wire import exact
from gateway.wire.fastlane import (
    BEFORE,
    Templates,
    differs_before,
    find_template,
    first_frame,
    loads_lenient,
    read_run,
    whole_frames,
)
from gateway.wire.values import Delta, Meta, Piece, TextRun, ToolCallDelta, UpstreamError, WireError, count

_NO_ANSWERS = ("load", "unload")
_COUNTS = ("prompt_eval_count", "eval_count")
_DURATIONS = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")


class OllamaChatDecoder:
    """Reads the lines of one answer."""

    name = "ollama_chat.1"
    __slots__ = ("_calls", "_done", "_model", "_plain", "_templates")

    def __init__(self) -> None:
        self._calls = 0
        self._done = False
        self._model: str | None = None
        self._templates = Templates(_template, _A_TEXT)
        self._plain: Template | None = None

    @property
    def complete(self) -> bool:
        """True after `done: true`."""
        return self._done

    def template(self, frames: Sequence[bytes], known: Template | None) -> tuple[int, Template] | None:
        """Every line has its own time in front of the text."""
        return self._templates.next(frames, known)

    def decode(self, parts: Sequence[Part], template: Template | None) -> list[Piece]:
        pieces: list[Piece] = []
        text = template if template is not None and template.between.endswith(_ANSWER) else None
        for part in parts:
            if isinstance(part, bytes):
                pieces += self._line(part)
            elif text and self._is_plain(part, text) and (run := _read(part)):
                pieces.append(run)
            else:
                for frame in whole_frames(part, template):
                    pieces += self._line(frame)
        return pieces

    def _is_plain(self, part: Middles, template: Template) -> bool:
        """Whether lines of this template name no other model: looked at in one, and again behind any that did."""
        if template is not self._plain:
            line = loads_lenient(first_frame(part, template))
            if not isinstance(line, dict) or (line.get("model") and line["model"] != self._model):
                return False
            self._plain = template
        return True

    def _line(self, frame: bytes) -> list[Piece]:
        line = loads_lenient(frame)
        if not isinstance(line, dict):
            raise WireError("the upstream sent a line that is not an object")
        if line.get("error"):
            return [Meta(error=error_of(line["error"], 500))]
        pieces: list[Piece] = []
        if line.get("model") and line["model"] != self._model:
            self._model, self._plain = str(line["model"]), None
            pieces.append(Meta(model=self._model))
        delta = self._delta(line, frame)
        if line.get("done") is True:
            pieces += self._end(line, delta)
        elif delta.text or delta.reasoning or delta.tool_calls or delta.logprobs:
            pieces.append(delta)
        return pieces

    def _delta(self, line: Mapping[str, Any], frame: bytes) -> Delta:
        message = line.get("message") or {}
        if not isinstance(message, dict):
            raise WireError("the upstream sent a message that is not an object")
        return Delta(
            text=_text(message.get("content")),
            reasoning=_text(message.get("thinking")),
            tool_calls=self._tool_calls(frame) if message.get("tool_calls") else (),
            logprobs=_logprobs(line.get("logprobs")),
        )

    def _tool_calls(self, frame: bytes) -> list[ToolCallDelta]:
        """The calls, read again number for number: their arguments become text here, once."""
        given = exact.loads(frame)["message"]["tool_calls"]
        if not isinstance(given, list):
            raise WireError("the upstream sent tool calls that are not a list")
        calls = [self._tool_call(self._calls + i, call, frame) for i, call in enumerate(given)]
        self._calls += len(calls)
        return calls

    def _tool_call(self, index: int, call: Any, frame: bytes) -> ToolCallDelta:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise WireError("the upstream sent a tool call without a function's name")
        call_id, arguments = call.get("id"), function.get("arguments")
        return ToolCallDelta(
            index,
            id=call_id if isinstance(call_id, str) and call_id else _derived_id(frame, index),
            name=function["name"],
            arguments=arguments if isinstance(arguments, str) else exact.dumps(arguments or {}),
        )

    def _end(self, line: Mapping[str, Any], delta: Delta) -> list[Piece]:
        """`load` and `unload` answer no question, so they end nothing."""
        reason = line.get("done_reason") or "stop"
        if reason in _NO_ANSWERS:
            return [Meta(error=UpstreamError(f"the provider answered with '{reason}' instead of a message", 502))]
        self._done = True
        delta.finish_reason = "length" if reason == "length" else "tool_calls" if self._calls else "stop"
        return [delta, _usage(line), Meta(ended=True)]


def _read(part: Middles) -> TextRun | None:
    """The run, unless a line of it is empty: that is no news."""
    run = read_run(part, BEFORE)
    return run if run is not None and all(run.escaped.split(SEP)) else None


def _template(frame: bytes) -> Template | None:
    """What lines share that add to one text and to nothing else."""
    try:
        line = orjson.loads(frame)
    except orjson.JSONDecodeError:
        return None
    message = line.get("message") if isinstance(line, dict) else None
    if not isinstance(message, dict) or line.get("done") is not False or line.get("error") or line.get("logprobs"):
        return None
    added, at = [(key, value) for key, value in message.items() if value and key != "role"], line.get("created_at")
    if len(added) != 1 or added[0][0] not in {"content", "thinking"} or not isinstance(at, str):
        return None
    key, text = added[0]
    template = find_template(frame, text, key.encode()) if isinstance(text, str) else None
    return template and differs_before(template, b"created_at", at)


_A_TEXT = re.compile(rb'"(?:content|thinking)": ?"(?!")')
_ANSWER = (b'"content":"', b'"content": "')
"""Where what stands between time and text ends, if that is the answer's own."""


def _usage(line: Mapping[str, Any]) -> Meta:
    """A count may be missing: of a prompt that was cached (some versions), of an answer that was empty."""
    usage = Usage(input_tokens=count(line.get("prompt_eval_count")), output_tokens=count(line.get("eval_count")))
    raw = {name: line[name] for name in (*_COUNTS, *_DURATIONS) if line.get(name) is not None}
    return Meta(usage=usage, usage_raw=raw, usage_estimated=any(name not in raw for name in _COUNTS))


def error_of(error: Any, status: int) -> UpstreamError:
    """An error text, or the runner's error object inside one, in OpenAI's words."""
    message, kind = _error_text(error)
    words = _ERRORS.get(status, ("invalid_request_error" if status < 500 else "server_error", None))
    code = "context_length_exceeded" if kind == "exceed_context_size_error" else words[1]
    param = "model" if code == "model_not_found" else None
    return UpstreamError(message[:2000], status, type=words[0], code=code, param=param)


_ERRORS: Mapping[int, tuple[str, str | None]] = {
    404: ("invalid_request_error", "model_not_found"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    503: ("server_error", "overloaded"),
}


def error_of_body(status: int, body: bytes) -> UpstreamError:
    """What a non-2xx answer means. A body that is not Ollama's is not shown."""
    try:
        answer = loads_lenient(body)
    except WireError:
        answer = None
    error = answer.get("error") if isinstance(answer, dict) else None
    return error_of(error or f"the provider answered {status}", status)


def _error_text(error: Any) -> tuple[str, Any]:
    """(message, type). The runner's own answer, `{"error": {message, type}}`, may be passed on as text."""
    if isinstance(error, str) and error.startswith("{"):
        try:
            inner = loads_lenient(error.encode())
        except WireError:
            return error, None
        error = inner.get("error") or error
    if isinstance(error, dict):
        return str(error.get("message") or "the provider reported an error"), error.get("type")
    return str(error), None


def _derived_id(frame: bytes, index: int) -> str:
    """An id for a call that has none: the same whenever the frame is read again, another for every other call."""
    return "call_" + hashlib.sha256(b"%d:" % index + frame).hexdigest()[:24]


def _logprobs(given: Any) -> dict[str, Any] | None:
    """Ollama's list as OpenAI's `{content: [{token, logprob, bytes, top_logprobs}], refusal}`."""
    if not isinstance(given, list) or not given:
        return None
    content = [
        {**_logprob(token), "top_logprobs": [_logprob(other) for other in _objects(token.get("top_logprobs"))]}
        for token in _objects(given)
    ]
    return {"content": content, "refusal": None}


def _objects(given: Any) -> list[dict[str, Any]]:
    return [item for item in given if isinstance(item, dict)] if isinstance(given, list) else []


def _logprob(token: Mapping[str, Any]) -> dict[str, Any]:
    text = _text(token.get("token"))
    return {"token": text, "logprob": token.get("logprob"), "bytes": token.get("bytes") or list(text.encode())}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
