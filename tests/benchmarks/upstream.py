"""An OpenAI-compatible upstream that costs next to nothing: fixed answers, as bytes, at once.

    python -m tests.benchmarks.upstream [--tokens 64] [--every-ms 20]

Prints its port on a line of its own once it listens. A streamed answer is one write, as from a model that is faster
than the socket: nothing hides what a frame costs the gateway. With `--every-ms` its tokens come so far apart, and each
says in nanoseconds of the system's monotonic clock when it was sent: ` @123456789`.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any

import orjson
import uvloop

from gateway.__main__ import raise_open_files

SAME = {"id": "chatcmpl-bench", "created": 1_700_000_000, "model": "bench"}
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


class Answers:
    """The bytes of the three answers, of so many tokens."""

    def __init__(self, tokens: int) -> None:
        words = [f" word{n % 97}" for n in range(tokens)]
        usage = {"prompt_tokens": 12, "completion_tokens": tokens, "total_tokens": tokens + 12}
        self.models = whole({"object": "list", "data": [{"id": "bench", "object": "model", "owned_by": "bench"}]})
        message = {"role": "assistant", "content": "".join(words), "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        self.whole = whole({**SAME, "object": "chat.completion", "choices": [choice], "usage": usage})
        deltas = [{"role": "assistant", "content": ""}, *({"content": word} for word in words)]
        chunks = [*(chunk(delta) for delta in deltas), chunk({}, "stop"), frame({"choices": [], "usage": usage})]
        self.streamed = streamed(*chunks, b"data: [DONE]\n\n")

    def to(self, head: bytes, body: bytes) -> bytes:
        """The answer to a request."""
        if head.startswith(b"GET"):
            return self.models
        return self.streamed if b'"stream":true' in body else self.whole


def whole(value: Any) -> bytes:
    body = orjson.dumps(value)
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def frame(fields: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % orjson.dumps({**SAME, "object": "chat.completion.chunk", **fields})


def chunk(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return frame({"choices": [choice]})


def streamed(*frames: bytes) -> bytes:
    """A chunk a frame, as servers write them."""
    return STREAM + b"".join(map(in_chunk, frames)) + b"0\r\n\r\n"


def in_chunk(data: bytes) -> bytes:
    """A chunk of HTTP's chunked coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Paced:
    """One answer, a token at a time, on a beat of its own that no delay shifts."""

    def __init__(self, transport: asyncio.WriteTransport, tokens: int, every_s: float) -> None:
        self._transport, self._left, self._every_s = transport, tokens, every_s
        self._loop = asyncio.get_running_loop()
        self._next = self._loop.time()
        transport.write(STREAM + in_chunk(chunk({"role": "assistant", "content": ""})))
        self._send()

    def _send(self) -> None:
        if self._transport.is_closing():
            return
        if not self._left:
            ends = (chunk({}, "stop"), b"data: [DONE]\n\n")
            self._transport.write(b"".join(map(in_chunk, ends)) + b"0\r\n\r\n")
            return
        self._left -= 1
        self._transport.write(in_chunk(chunk({"content": f" @{time.monotonic_ns()}"})))
        self._next += self._every_s
        self._loop.call_at(self._next, self._send)


class Upstream(asyncio.Protocol):
    """One connection. Reads requests with a content-length, and GETs."""

    def __init__(self, answers: Answers, tokens: int, every_s: float) -> None:
        self._answers, self._tokens, self._every_s = answers, tokens, every_s
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.WriteTransport = transport  # type: ignore[assignment]  # what a stream has

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while (head_end := self._unread.find(b"\r\n\r\n") + 4) > 3:
            head = self._unread[:head_end]
            _, named, rest = head.lower().partition(b"content-length:")
            end = head_end + (int(rest.split(b"\r\n", 1)[0]) if named else 0)
            if len(self._unread) < end:
                return
            self._answer(head, self._unread[head_end:end])
            self._unread = self._unread[end:]

    def _answer(self, head: bytes, body: bytes) -> None:
        if self._every_s and b'"stream":true' in body:
            Paced(self._transport, self._tokens, self._every_s)
        else:
            self._transport.write(self._answers.to(head, body))


async def serve(tokens: int, every_s: float) -> None:
    raise_open_files()
    answers = Answers(tokens)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(answers, tokens, every_s), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--every-ms", type=float, default=0.0)
    asked = parser.parse_args()
    uvloop.run(serve(asked.tokens, asked.every_ms / 1e3))
