"""An upstream whose stream stops in the middle until the test lets it go on."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def chunk(text: str | None, finish_reason: str | None = None) -> bytes:
    """One of OpenAI's chunks."""
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish_reason}
    value: dict[str, Any] = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: %b\n\n" % json.dumps({**value, "choices": [choice]}).encode()


class GatedUpstream:
    """Answers every request with the word `first`, and with `rest` words of a kilobyte once `gate` is set."""

    def __init__(self, rest: int) -> None:
        self.gate = asyncio.Event()
        self.base_url = ""
        self.asked = 0
        self._rest = b"".join(chunk(f" {n:04d}" + "x" * 1_000) for n in range(rest))
        self._server: asyncio.Server | None = None
        self._answers: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> GatedUpstream:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._answers:
            task.cancel()
        await asyncio.gather(*self._answers, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._answer(reader, writer))
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):  # the server may end in the middle
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"POST"):
                self.asked += 1
                await self._stream(writer)
        writer.close()

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk("first"))
        await writer.drain()
        await self.gate.wait()
        writer.write(self._rest + chunk(None, "stop") + b"data: [DONE]\n\n")
        await writer.drain()
