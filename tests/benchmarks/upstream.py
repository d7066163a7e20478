"""An OpenAI-compatible upstream that costs next to nothing: fixed answers, as bytes, at once.

    python -m tests.benchmarks.upstream [--tokens 64]

Prints its port on a line of its own once it listens. A streamed answer is one write, as from a model that is faster
than the socket: nothing hides what a frame costs the gateway.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

import orjson
import uvloop

SAME = {"id": "chatcmpl-bench", "created": 1_700_000_000, "model": "bench"}


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
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in frames) + b"0\r\n\r\n"


class Upstream(asyncio.Protocol):
    """One connection. Reads requests with a content-length, and GETs."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
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
            self._transport.write(self._answers.to(head, self._unread[head_end:end]))
            self._unread = self._unread[end:]


async def serve(tokens: int) -> None:
    answers = Answers(tokens)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(answers), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=64)
    uvloop.run(serve(parser.parse_args().tokens))
