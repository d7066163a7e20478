"""The built-in demo: answers from the prompt, in OpenAI's stream format, without any model. For first steps and tests.

    demo/echo   says the last user message again, a word at a time

Paced by `DELAY_S` a word, so that a stream looks like one. It calls nothing and costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson

from gateway.upstreams.chat_spoken import OwnAnswers
from gateway.upstreams.upstream import Answer, Call, ModelInfo, Provider
from gateway.wire.chat_request import GATEWAY_FIELDS

DELAY_S = 0.02
MODELS = ("echo",)


class Demo(OwnAnswers):
    """The family."""

    family = "demo"

    def encode(self, provider: Provider, model: str, body: Mapping[str, Any]) -> Call:
        asked = {"model": model, "messages": body.get("messages", []), "max_tokens": _max_tokens(body)}
        return Call("/echo", orjson.dumps(asked), body.get("stream") is True, ignored=_ignored(body))

    async def open(self, provider: Provider, call: Call, api_key: str | None) -> Answer:
        asked = orjson.loads(call.body)
        if asked["model"] not in MODELS:
            return _NoModel(asked["model"])
        return _Echo(asked, call.streamed)

    async def models(self, provider: Provider, api_key: str | None) -> list[ModelInfo]:
        return [ModelInfo(name, "text-generation", created=0, owned_by="abstractcore") for name in MODELS]


class _NoModel:
    status = 404
    headers: Mapping[str, str] = {}

    def __init__(self, model: str) -> None:
        self._model = model
        self._said = False

    async def read(self) -> bytes:
        if self._said:
            return b""
        self._said = True
        message = f"demo has no model {self._model!r}; it has {', '.join(MODELS)}"
        error = {"message": message, "type": "invalid_request_error", "param": "model", "code": "model_not_found"}
        return orjson.dumps({"error": error})

    async def close(self, ended: bool = False) -> None:
        """Nothing is open."""


class _Echo:
    status = 200
    headers: Mapping[str, str] = {}

    def __init__(self, asked: dict[str, Any], streamed: bool) -> None:
        words = _last_user_text(asked["messages"]).split(" ") or [""]
        limit = asked["max_tokens"]
        self._cut = limit is not None and limit < len(words)
        self._words = words[:limit] if self._cut else words
        self._streamed = streamed
        self._model = asked["model"]
        self._chunks = self._answer()
        self._prompt_tokens = sum(len(str(m.get("content", "")).split()) for m in asked["messages"])

    async def read(self) -> bytes:
        return await anext(self._chunks, b"")

    async def _answer(self) -> AsyncIterator[bytes]:
        reason = "length" if self._cut else "stop"
        if not self._streamed:
            message = {"role": "assistant", "content": " ".join(self._words), "refusal": None}
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
            yield orjson.dumps(
                {"object": "chat.completion", "model": self._model, "choices": [choice], **self._usage()}
            )
            return
        for index, word in enumerate(self._words):
            yield self._chunk({"content": word if index == 0 else " " + word}, None)
            await asyncio.sleep(DELAY_S)
        yield self._chunk({}, reason)
        yield b"data: " + orjson.dumps({"object": "chat.completion.chunk", "choices": [], **self._usage()}) + b"\n\n"
        yield b"data: [DONE]\n\n"

    def _usage(self) -> dict[str, Any]:
        answer = len(self._words)
        usage = {"prompt_tokens": self._prompt_tokens, "completion_tokens": answer}
        return {"usage": {**usage, "total_tokens": self._prompt_tokens + answer}}

    def _chunk(self, delta: dict[str, Any], reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return b"data: " + orjson.dumps({"object": "chat.completion.chunk", "choices": [choice]}) + b"\n\n"

    async def close(self, ended: bool = False) -> None:
        """Nothing is open."""


def _last_user_text(messages: list[dict[str, Any]]) -> str:
    for message in reversed(messages):
        if message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, str):
                return content
            if isinstance(content, list):
                return " ".join(p["text"] for p in content if isinstance(p, dict) and isinstance(p.get("text"), str))
    return ""


def _max_tokens(body: Mapping[str, Any]) -> int | None:
    value = body.get("max_completion_tokens", body.get("max_tokens"))
    return value if isinstance(value, int) and value > 0 else None


def _ignored(body: Mapping[str, Any]) -> tuple[str, ...]:
    """An echo has no use for most fields; it says so for each."""
    used = GATEWAY_FIELDS | {"max_tokens", "max_completion_tokens"}
    return tuple(sorted(body.keys() - used))
