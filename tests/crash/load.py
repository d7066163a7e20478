"""Work for a server that is about to be killed: an upstream of three families, and clients that keep what they get."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from tests.gateway.raw import RawClient, Received, request
from tests.gateway.scripted import Request, Script, ScriptedServer

WORDS = 40
PACE_S = 0.004
MODELS = ("openai-compatible/paced", "openai-compatible/fast", "anthropic/claude", "ollama/llama", "demo/echo")


@asynccontextmanager
async def upstream() -> AsyncIterator[ScriptedServer]:
    """Answers in each family's own format, streamed or whole, as it is asked."""
    async with ScriptedServer() as server:
        server.script("POST /v1/chat/completions", _openai)
        server.script("POST /v1/completions", Script.file("completions/text.sse", split=60, pace_s=PACE_S))
        server.script("POST /v1/embeddings", Script.file("whole/embeddings.json", delay_s=PACE_S))
        server.script("POST /v1/messages", _anthropic)
        server.script("POST /api/chat", _family("ollama", "ndjson"))
        yield server


def environ(base_url: str) -> dict[str, str]:
    """The variables of a server whose providers are all there."""
    return {
        "OPENAI_COMPATIBLE_BASE_URL": f"{base_url}/v1",
        "ANTHROPIC_BASE_URL": base_url,
        "ANTHROPIC_API_KEY": "sk-ant-for-the-test",
        "OLLAMA_BASE_URL": base_url,
    }


def openai_stream(words: int = WORDS, usage: bool = True) -> bytes:
    """An answer of so many words, in OpenAI's chunks."""

    def chunk(**fields: Any) -> bytes:
        value = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", **fields}
        return b"data: %b\n\n" % json.dumps(value).encode()

    def choice(delta: dict[str, Any], finish_reason: str | None = None) -> list[dict[str, Any]]:
        return [{"index": 0, "delta": delta, "finish_reason": finish_reason}]

    chunks = [chunk(choices=choice({"role": "assistant", "content": ""}))]
    chunks += [chunk(choices=choice({"content": f" word{n}"})) for n in range(words)]
    chunks.append(chunk(choices=choice({}, "stop")))
    if usage:
        counts = {"prompt_tokens": 7, "completion_tokens": words, "total_tokens": 7 + words}
        chunks.append(chunk(choices=[], usage=counts))
    return b"".join([*chunks, b"data: [DONE]\n\n"])


def openai_body(text: str = "All of it.", **fields: Any) -> dict[str, Any]:
    """A whole answer, in OpenAI's words."""
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices,
            "usage": usage, **fields}  # fmt: skip


def _openai(request: Request) -> Script:
    asked = request.json()
    if not asked.get("stream"):
        return Script.json(openai_body(), delay_s=PACE_S)
    stream = openai_stream()
    paced = asked["model"] == "paced"
    size = len(stream) // WORDS if paced else 1500
    return Script(stream, content_type="text/event-stream", split=size, pace_s=PACE_S if paced else 0.0)


def _anthropic(request: Request) -> Script:
    """Asked for JSON, it gives some at the second try."""
    asked = request.json()
    if "JSON" not in str(asked.get("system")):
        answer: Script = _family("anthropic", "sse")(request)
        return answer
    right = "cannot be used" in str(asked["messages"][-1])
    text = {"type": "text", "text": '{"all": "well"}' if right else "not yet"}
    usage = {"input_tokens": 9, "output_tokens": 3}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": [text]}
    return Script.json({**message, "stop_reason": "end_turn", "usage": usage}, delay_s=PACE_S)


def _family(name: str, suffix: str) -> Any:
    streamed = Script.file(f"{name}/text.{suffix}", split=60, pace_s=PACE_S)
    whole = Script.file(f"{name}/body.json")

    def answer(request: Request) -> Script:
        return replace(streamed) if request.json().get("stream") else whole

    return answer


def words_of(body: bytes) -> list[str]:
    """The words that name the prompts in a body."""
    return [word.decode() for word in re.findall(rb"ask-\d+-\d+", body)]


Ask = tuple[str, dict[str, Any]]
"""A path and a body."""


def _chat(model: str, text: str, stream: bool) -> Ask:
    asked = {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream, "max_tokens": 500}
    return "/v1/chat/completions", asked


def _structured(model: str, text: str, stream: bool) -> Ask:
    """Two attempts, the first held back."""
    path, body = _chat("anthropic/claude", text, stream=False)
    return path, body | {"response_format": {"type": "json_object"}}


def _completion(model: str, text: str, stream: bool) -> Ask:
    asked = {"model": "openai-compatible/base", "prompt": text, "stream": True, "echo": True}
    return "/v1/completions", asked


def _embedding(model: str, text: str, stream: bool) -> Ask:
    return "/v1/embeddings", {"model": "openai-compatible/e", "input": [text, text]}


def _response(model: str, text: str, stream: bool) -> Ask:
    return "/v1/responses", {"model": model, "input": text, "stream": stream}


def _message(model: str, text: str, stream: bool) -> Ask:
    """Models of Anthropic's give their own frames, the others get them made."""
    asked = {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream, "max_tokens": 500}
    return "/v1/messages", asked


ENDPOINTS = (_chat, _response, _structured, _message, _completion, _chat, _embedding, _message, _response)


class Load:
    """Clients that ask, one request after the other, until the server dies under them. `answers` has what each
    connection got. Each prompt has a word of its own (`words_of`)."""

    def __init__(self, url: str, run: int, clients: int) -> None:
        self._url, self._run = url, run
        self._numbers = itertools.count()
        self._tasks = [asyncio.create_task(self._client(index)) for index in range(clients)]
        self._asking: set[RawClient] = set()
        self.answers: list[Received] = []

    async def _client(self, index: int) -> None:
        for path, body in self._asks(index):
            try:
                client = await RawClient.connect(self._url)
            except ConnectionError:
                return
            self._asking.add(client)
            try:
                await client.send(request(body, path))
                self.answers.append(await client.answer())
            except ConnectionError:
                self.answers.append(client.received)
            finally:
                self._asking.discard(client)
                client.leave()

    async def heard(self) -> None:
        """Wait until a client has some of an answer."""
        while not any(answer.body for answer in (*self.answers, *(client.received for client in self._asking))):
            await asyncio.sleep(0.005)

    def _asks(self, index: int) -> Iterator[tuple[str, dict[str, Any]]]:
        for number in self._numbers:
            text = f"ask-{self._run}-{number} and say it again, all of it"
            model = MODELS[(index + number) % len(MODELS)]
            yield ENDPOINTS[number % len(ENDPOINTS)](model, text, number % 3 != 0)

    async def over(self) -> list[Received]:
        """Wait until every client has noticed that the server is dead; what they all got."""
        await asyncio.gather(*self._tasks)
        return self.answers
