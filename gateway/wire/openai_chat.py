"""OpenAI chat completions, read: stream chunks and whole bodies from any server that speaks this format.

Format: https://platform.openai.com/docs/api-reference/chat/streaming
The quirks of other servers are named where they are handled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from eventstore.catalogue.values import Usage
from eventstore.frames import Middles, Part, Template
from gateway.wire.fastlane import BEHIND, Templates, first_frame, loads_lenient, read_run, whole_frames
from gateway.wire.finish_reasons import failure_of, finish_reason_of
from gateway.wire.halves import ESCAPE, Halves
from gateway.wire.openai_calls import CallIds, CallIds1, StreamedCalls
from gateway.wire.openai_texts import A_TEXT, KNOWN_DELTA, PADDING, is_extra, template_of
from gateway.wire.sse import events_in, read_frame
from gateway.wire.values import Delta, Meta, Piece, ToolCallDelta, UpstreamError, WireError, count, unreadable
from gateway.wire.whole_body import WholeDecoder, is_body

DONE = b"[DONE]"
_OURS = frozenset({"object", "created", "choices", "usage", "error", *PADDING})
"""Top-level keys that our answers say for themselves, and the padding of a stream. All others are carried to the
client, such as `citations` (Perplexity), `provider` (OpenRouter), `x_groq` and `timings` (llama.cpp)."""
_NAMES = ("model", "id")
_ANSWER = (b'"content":"', b'"content": "')
"""Where a template's prefix ends if that is the answer's own."""
MOST_INDEX = 65_535


class ChatStreamDecoder:
    """Reads `data: {chat.completion.chunk}` frames, to the finish reason and `[DONE]`."""

    name = "openai_chat_stream.2"
    _ids: type[CallIds] = CallIds
    __slots__ = ("_calls", "_done", "_finished", "_halves", "_last", "_plain", "_said", "_templates")

    def __init__(self) -> None:
        self._finished: dict[int, bool] = {}
        self._calls = StreamedCalls(self._ids())
        self._halves = Halves()
        self._done = False
        self._said: dict[str, Any] = {}
        self._templates = Templates(template_of, A_TEXT)
        self._plain: Template | None = None
        self._last = b""

    @property
    def complete(self) -> bool:
        """True after `[DONE]` or each choice's finish reason; some servers send only one of them."""
        return self._done or (bool(self._finished) and all(self._finished.values()))

    def template(self, frames: Sequence[bytes], known: Template | None) -> tuple[int, Template] | None:
        return self._templates.next(frames, known)

    def decode(self, parts: Sequence[Part], template: Template | None) -> list[Piece]:
        pieces: list[Piece] = []
        text = template if template is not None and template.prefix.endswith(_ANSWER) else None
        beside = BEHIND if template is not None and template.between else None
        for part in parts:
            if isinstance(part, bytes):
                self._last = part
                self._frame(part, pieces)
            elif text and not self._halves and self._is_plain(part, text) and (run := read_run(part, beside)):
                pieces.append(run)
            else:
                for frame in whole_frames(part, template):
                    self._frame(frame, pieces)
        return pieces

    def _is_plain(self, part: Middles, template: Template) -> bool:
        """Whether frames of this template say nothing but their text: what else stands in them was heard in the last
        whole frame, or is looked at in one, and again behind any frame that said something else."""
        if template is not self._plain and template.middle(self._last) is not None:
            self._plain = template
        elif template is not self._plain:
            chunk = loads_lenient(read_frame(first_frame(part, template))[1] or b"null")
            if not isinstance(chunk, dict) or self._news(chunk):
                return False
            self._plain = template
        return True

    def _frame(self, frame: bytes, pieces: list[Piece]) -> None:
        _, data = read_frame(frame)
        if data is None:
            if is_body(frame):
                self._whole(frame, pieces)
            return
        if data.strip() == DONE:
            self._done = True
            pieces.append(Meta(ended=True))
            return
        chunk = _object(loads_lenient(data), "a chunk")
        if chunk.get("error"):
            pieces.append(Meta(error=error_of(chunk["error"], 502)))
            return
        self._meta(chunk, pieces)
        choices = chunk.get("choices")
        if self._halves or any(escape in data for escape in ESCAPE):
            self._halves.join(choices, data)
        for choice in choices if isinstance(choices, list) else ():
            self._choice(_object(choice, "a choice"), data, pieces)

    def _whole(self, frame: bytes, pieces: list[Piece]) -> None:
        """All of it in one body, or an error, though a stream was asked for."""
        whole = self._body_decoder()
        pieces += whole.body(frame)
        self._done = whole.complete

    def _body_decoder(self) -> WholeDecoder:
        return ChatBodyDecoder()

    def _choice(self, choice: dict[str, Any], data: bytes, pieces: list[Piece]) -> None:
        reason = _string(choice.get("finish_reason"))
        if reason is not None and (failure := _failure(choice, reason)) is not None:
            pieces.append(Meta(error=failure))
            return
        delta = delta_of(_index(choice.get("index"), 0), choice.get("delta"), reason, choice.get("logprobs"))
        self._finished[delta.choice] = delta.finish_reason is not None or self._finished.get(delta.choice, False)
        if delta.tool_calls:
            delta.tool_calls = [*self._calls.read(delta.choice, delta.tool_calls, data)]
        if delta.finish_reason is not None:
            delta.tool_calls = [*delta.tool_calls, *self._calls.nameless(delta.choice)]
        pieces.append(delta)

    def _meta(self, chunk: dict[str, Any], pieces: list[Piece]) -> None:
        usage, news = chunk.get("usage"), self._news(chunk)
        if not usage and not news:
            return
        if news:
            self._said.update(news)
            self._plain = None
        pieces.append(meta_of(news, usage if isinstance(usage, dict) else None))

    def _news(self, chunk: dict[str, Any]) -> dict[str, Any]:
        return {key: each for key, each in chunk.items() if key not in _OURS and each and self._is_news(key, each)}

    def _is_news(self, key: str, value: Any) -> bool:
        """Most keys stand on every chunk. The answer is called what its first one is."""
        return key not in self._said or (key not in _NAMES and self._said[key] != value)


class ChatBodyDecoder(WholeDecoder):
    """Reads one whole `chat.completion` body, as the single frame of a generation that was not streamed."""

    name = "openai_chat_body.2"
    __slots__ = ()
    _ids: type[CallIds] = CallIds

    def _stream_decoder(self) -> ChatStreamDecoder:
        return ChatStreamDecoder()

    def body(self, frame: bytes) -> list[Piece]:
        try:
            body = _object(loads_lenient(frame), "an answer")
        except WireError:
            if (events := events_in(frame)) is None:
                raise
            return self._streamed(self._stream_decoder(), events)
        if body.get("error") and not body.get("choices"):
            return [Meta(error=error_of(body["error"], 502))]
        choices = body.get("choices")
        if not isinstance(choices, list) or not choices:
            raise WireError("the upstream's answer has no choices")
        pieces: list[Piece] = []
        ids = self._ids()
        for position, choice in enumerate(choices):
            choice = _object(choice, "a choice")
            message = _object(choice.get("message"), "a message")
            index, reason = _index(choice.get("index"), position), _string(choice.get("finish_reason")) or "stop"
            if (failure := _failure(choice, reason)) is not None:
                pieces.append(Meta(error=failure))
            delta = delta_of(index, message, None if failure else reason, choice.get("logprobs"))
            for place, call in enumerate(delta.tool_calls):  # whatever index they carry, each is a whole call
                call.index, call.id = place, ids.of(call.id, frame, index, place)
            pieces.append(delta)
        self._finished = True
        usage = body.get("usage")
        top = {key: each for key, each in body.items() if key not in _OURS and each}
        pieces.append(meta_of(top, usage if isinstance(usage, dict) else None))
        return pieces


class ChatStreamDecoder1(ChatStreamDecoder):
    """Version 1, which left ids that a server repeats as they are."""

    name = "openai_chat_stream.1"
    __slots__ = ()
    _ids = CallIds1

    def _body_decoder(self) -> WholeDecoder:
        return ChatBodyDecoder1()


class ChatBodyDecoder1(ChatBodyDecoder):
    """Version 1 likewise."""

    name = "openai_chat_body.1"
    __slots__ = ()
    _ids = CallIds1

    def _stream_decoder(self) -> ChatStreamDecoder:
        return ChatStreamDecoder1()


def _failure(choice: Mapping[str, Any], reason: str) -> UpstreamError | None:
    """The error that a choice ended with. OpenRouter's rides on the chunk, and was taken there if it was sane."""
    failure = failure_of(reason)
    return failure and (error_of(choice["error"], failure.status) if choice.get("error") else failure)


def delta_of(index: int, delta: Any, reason: str | None, logprobs: Any) -> Delta:
    """A `delta` or `message` object of a choice. `reasoning_content` (DeepSeek, LM Studio) and `reasoning` (OpenRouter,
    newer vLLM) are one thing; keys that we do not know ride along in `extra`. An empty reason is none."""
    delta = _object(delta or {}, "a delta")
    extra = None
    if not delta.keys() <= KNOWN_DELTA:
        extra = {key: value for key, value in delta.items() if is_extra(key, value)} or None
    calls = delta.get("tool_calls")
    return Delta(
        choice=index,
        text=_text(delta.get("content")),
        reasoning=_string(delta.get("reasoning_content")) or _string(delta.get("reasoning")) or "",
        refusal=_text(delta.get("refusal")),
        tool_calls=[_call(i, call) for i, call in enumerate(calls)] if isinstance(calls, list) else (),
        finish_reason=reason and finish_reason_of(reason),
        logprobs=logprobs if isinstance(logprobs, dict) and logprobs else None,
        extra=extra,
    )


def _text(content: Any) -> str:
    """A message's content as text; Mistral sends a list of parts."""
    if isinstance(content, list):
        return "".join(_string(part.get("text")) or "" for part in content if isinstance(part, dict))
    return _string(content) or ""


def _call(position: int, call: Any) -> ToolCallDelta:
    call = _object(call, "a tool call")
    kind = "custom" if call.get("type") == "custom" or "custom" in call else "function"
    inner = _object(call.get(kind) or {}, "a tool call's function")
    arguments = inner.get("input" if kind == "custom" else "arguments") or ""
    if not isinstance(arguments, str):  # llama.cpp-like servers send an object
        arguments = orjson.dumps(arguments).decode()
    return ToolCallDelta(
        index=_index(call.get("index"), position),
        id=_string(call.get("id")),
        name=_string(inner.get("name")),
        arguments=arguments,
        type=kind,
    )


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise WireError(f"the upstream sent {what} that is not an object")
    return value


def _index(value: Any, position: int) -> int:
    """Of a choice or a call, its place in the list where the upstream does not number them."""
    if value is None:
        return position
    if not isinstance(value, int) or not 0 <= value <= MOST_INDEX:
        raise WireError("the upstream sent an index that is not a small number")
    return value


def _string(value: Any) -> str | None:
    """A text that is one, and not empty."""
    return value if isinstance(value, str) and value else None


def meta_of(top: dict[str, Any], usage: dict[str, Any] | None) -> Meta:
    """`top` may hold `model` and `id` beside the keys that are carried to the client."""
    meta = Meta(model=_string(top.pop("model", None)), id=_string(top.pop("id", None)), top=top or None)
    if usage:
        meta.usage_raw, meta.usage = usage, usage_of(usage)
        meta.usage_estimated = unreadable(usage.get("prompt_tokens")) or unreadable(usage.get("completion_tokens"))
        cost = usage.get("cost")
        if isinstance(cost, (int, float)) and not isinstance(cost, bool):
            meta.cost_reported = str(cost)
    return meta


def usage_of(raw: Mapping[str, Any]) -> Usage:
    """OpenAI's usage, normalised. `prompt_tokens` includes cached tokens; counts that it lacks are 0."""
    if "prompt_tokens_details" not in raw and "completion_tokens_details" not in raw:
        return Usage(input_tokens=count(raw.get("prompt_tokens")), output_tokens=count(raw.get("completion_tokens")))
    prompt, completion = _details(raw.get("prompt_tokens_details")), _details(raw.get("completion_tokens_details"))
    return Usage(
        input_tokens=count(raw.get("prompt_tokens")),
        cache_read_tokens=count(prompt.get("cached_tokens")),
        cache_write_5m_tokens=count(prompt.get("cache_write_tokens")),
        output_tokens=count(raw.get("completion_tokens")),
        reasoning_tokens=count(completion.get("reasoning_tokens")),
        input_audio_tokens=count(prompt.get("audio_tokens")),
        output_audio_tokens=count(completion.get("audio_tokens")),
    )


def usage_to_openai(usage: Usage) -> dict[str, Any]:
    """The other way: what an OpenAI client expects of any family's usage."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
            "audio_tokens": usage.input_audio_tokens,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": usage.output_audio_tokens,
        },
    }


def error_of(error: Any, status: int) -> UpstreamError:
    """An error object (or mlx-lm's bare string) as an upstream error. A numeric `code` is a status (OpenRouter)."""
    if not isinstance(error, dict):
        return UpstreamError(str(error)[:2000], status)
    code = error.get("code")
    if isinstance(code, int) and 400 <= code <= 599:
        status = code
    message = error.get("message")
    return UpstreamError(
        message=(message if isinstance(message, str) and message else "the provider reported an error")[:2000],
        status=status,
        type=error.get("type") if isinstance(error.get("type"), str) else None,
        code=code if isinstance(code, str) else None,
        param=error.get("param") if isinstance(error.get("param"), str) else None,
    )


def _details(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
