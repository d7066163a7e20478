"""A worker's messages as an upstream's answer: OpenAI's chunks, one body of them, a list of vectors or of results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from gateway.upstreams.local.process import Inbox, Refused
from gateway.upstreams.upstream import UpstreamFailure

DONE = b"data: [DONE]\n\n"


class RefusedAnswer:
    """An error body, and its status."""

    headers: Mapping[str, str] = {}

    def __init__(self, error: Mapping[str, Any]) -> None:
        self.status: int = error["status"]
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        shown = {"message": error["message"], "type": kind, "param": error["param"], "code": error["code"]}
        self._body = orjson.dumps({"error": shown})

    async def read(self) -> bytes:
        body, self._body = self._body, b""
        return body

    async def close(self, ended: bool = False) -> None:
        """Nothing is open."""


class WorkerAnswer(ABC):
    """What one request's messages come to. `begun` are those that are here; `end` gives the model back."""

    status = 200
    headers: Mapping[str, str] = {}

    def __init__(self, inbox: Inbox, begun: list[dict[str, Any]], end: Callable[[], None]) -> None:
        self._inbox, self._begun, self._end = inbox, begun, end
        self._whole = False

    async def _messages(self) -> list[dict[str, Any]]:
        """The next ones. Raises `UpstreamFailure`."""
        if self._begun:
            begun, self._begun = self._begun, []
            return begun
        try:
            return await self._inbox.take()
        except Refused as refused:
            raise UpstreamFailure("bad_response", f"the model failed: {refused}") from refused

    @abstractmethod
    async def read(self) -> bytes:
        """See `gateway.upstreams.upstream.Answer`."""

    async def close(self, ended: bool = False) -> None:
        """The model stops at its next token, if it has not ended."""
        end, self._end = self._end, _nothing
        end()


class StreamedChat(WorkerAnswer):
    """Server-sent events."""

    def __init__(self, inbox: Inbox, begun: list[dict[str, Any]], end: Callable[[], None]) -> None:
        super().__init__(inbox, begun, end)
        self._prompt_tokens = 0

    async def read(self) -> bytes:
        out = b""
        while not out and not self._whole:
            out = b"".join([self._said(message) for message in await self._messages()])
        return out

    def _said(self, message: Mapping[str, Any]) -> bytes:
        if "begun" in message:
            self._prompt_tokens = message["begun"]
            return b""
        if "text" in message:
            return _chunk([_choice({"content": message["text"]}, None)])
        self._whole = True
        ended = message["ended"]
        last = _chunk([_choice({}, ended["finish_reason"])])
        return last + _chunk([], usage=usage(self._prompt_tokens, ended["completion_tokens"])) + DONE


class WholeChat(WorkerAnswer):
    """One body."""

    async def read(self) -> bytes:
        if self._whole:
            return b""
        messages = await self._messages()
        while "ended" not in messages[-1]:
            messages += await self._messages()
        self._whole = True
        ended = messages[-1]["ended"]
        text = "".join(message.get("text", "") for message in messages)
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": ended["finish_reason"]}
        counted = usage(messages[0]["begun"], ended["completion_tokens"])
        return orjson.dumps({"object": "chat.completion", "choices": [choice], "usage": counted})


class Vectors(WorkerAnswer):
    """OpenAI's list of embeddings."""

    async def read(self) -> bytes:
        if self._whole:
            return b""
        (message,) = await self._messages()
        self._whole = True
        data = [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(message["vectors"])]
        tokens = message["tokens"]
        return orjson.dumps(
            {"object": "list", "data": data, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
        )


class Ranking(WorkerAnswer):
    """Jina's list of results, in the order of the documents."""

    async def read(self) -> bytes:
        if self._whole:
            return b""
        (message,) = await self._messages()
        self._whole = True
        tokens = message["tokens"]
        return orjson.dumps({"results": message["results"], "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})


def usage(prompt: int, answer: int) -> dict[str, int]:
    """The counts, as OpenAI has them."""
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}


def _choice(delta: Mapping[str, Any], reason: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}


def _chunk(choices: list[dict[str, Any]], **more: Any) -> bytes:
    return b"data: " + orjson.dumps({"object": "chat.completion.chunk", "choices": choices, **more}) + b"\n\n"


def _nothing() -> None:
    """It was closed already."""
