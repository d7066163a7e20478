"""Work for a server that is about to be killed: an upstream of three families, and clients that keep what they get."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from tests.crash.asks import ENDPOINTS, PICTURE, SOCKET, Ask
from tests.crash.socketclient import SocketClient
from tests.gateway.raw import RawClient, Received, request
from tests.gateway.scripted import Request, Script, ScriptedServer

WORDS = 40
PACE_S = 0.004
OBJECT = '{"all": "well"}'
CALL = {"id": "call_1", "type": "function", "function": {"name": "tide", "arguments": '{"harbour": "Brest"}'}}
MODELS = ("openai-compatible/paced", "openai-compatible/fast", "anthropic/claude", "ollama/llama", "demo/echo")


@asynccontextmanager
async def upstream() -> AsyncIterator[ScriptedServer]:
    """Answers in each family's own format, streamed or whole, as it is asked."""
    async with ScriptedServer() as server:
        server.script("POST /v1/chat/completions", _openai)
        server.script("POST /v1/completions", Script.file("completions/text.sse", split=60, pace_s=PACE_S))
        server.script("POST /v1/embeddings", Script.file("whole/embeddings.json", delay_s=PACE_S))
        image = {"created": 1, "data": [{"b64_json": b64encode(PICTURE).decode()}]}
        server.script("POST /v1/images/generations", Script.json(image, delay_s=PACE_S))
        server.script("POST /v1/images/edits", Script.json(image, delay_s=PACE_S))
        server.script("POST /v1/audio/speech", Script(PICTURE * 9, content_type="audio/wav", split=60, pace_s=PACE_S))
        server.script("POST /v1/audio/transcriptions", Script.json({"text": "All of it."}, delay_s=PACE_S))
        server.script("POST /v1/moderations", Script.json({"id": "m", "model": "m", "results": []}, delay_s=PACE_S))
        server.script("POST /v1/rerank", Script.file("rerank/body.json", delay_s=PACE_S))
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


def calling_body() -> dict[str, Any]:
    """A whole answer that calls a tool."""
    body = openai_body("A moment.")
    body["choices"][0]["message"]["tool_calls"] = [CALL]
    body["choices"][0]["finish_reason"] = "tool_calls"
    return body


def calling_stream() -> bytes:
    """The same as a stream: of a few words' length, so that it is cut as often."""
    body = openai_stream(words=8)
    called = {"tool_calls": [{"index": 0, **CALL}]}
    end = b'"delta": {}, "finish_reason": "stop"'
    return body.replace(end, b'"delta": %b, "finish_reason": "tool_calls"' % json.dumps(called).encode())


def _openai(request: Request) -> Script:
    """Given a tool, it calls that first; asked for an object, it gives one at the second try."""
    asked = request.json()
    roles = [message["role"] for message in asked["messages"]]
    calls = "tools" in asked and "tool" not in roles
    if not asked.get("stream"):
        right = "response_format" in asked and "assistant" in roles
        return Script.json(calling_body() if calls else openai_body(OBJECT if right else "All of it."), delay_s=PACE_S)
    stream = openai_stream() if not calls else calling_stream()
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
    text = {"type": "text", "text": OBJECT if right else "not yet"}
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


class Load:
    """Clients that ask, one request after the other, until the server dies under them. `answers` has what each
    connection got. Each prompt has a word of its own (`words_of`)."""

    def __init__(self, url: str, run: int, clients: int) -> None:
        self._url, self._run = url, run
        self._numbers = itertools.count(run * clients)  # each run begins with other endpoints
        self._tasks = [asyncio.create_task(self._client(index)) for index in range(clients)]
        self._asking: set[RawClient | SocketClient] = set()
        self.answers: list[Received] = []

    async def _client(self, index: int) -> None:
        for ask in self._asks(index):
            try:
                self.answers.append(await self._answered(ask))
            except ConnectionError:
                return

    async def _answered(self, ask: Ask) -> Received:
        """As far as it came. Raises `ConnectionError` where the server is gone before it is asked."""
        client = await (SocketClient if ask.path == SOCKET else RawClient).connect(self._url)
        self._asking.add(client)
        try:
            if isinstance(client, SocketClient):
                await client.send(ask.body)
            else:
                await client.send(request(ask.body, ask.path, dict(ask.headers)))
            return await client.answer()
        except ConnectionError:
            return client.received
        finally:
            self._asking.discard(client)
            await client.close()

    async def heard(self) -> None:
        """Wait until a client has some of an answer."""
        while not any(answer.body for answer in (*self.answers, *(client.received for client in self._asking))):
            await asyncio.sleep(0.005)

    def _asks(self, index: int) -> Iterator[Ask]:
        for number in self._numbers:
            text = f"ask-{self._run}-{number} and say it again, all of it"
            model = MODELS[(index + number) % len(MODELS)]
            yield ENDPOINTS[number % len(ENDPOINTS)](model, text, number % 3 != 0)

    async def over(self) -> Sequence[Received]:
        """Wait until every client has noticed that the server is dead; what they all got."""
        await asyncio.gather(*self._tasks)
        return self.answers
