"""A WebSocket client of the running server, and what it heard."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tests.gateway.scripted import Script
from tests.gateway.whole import PATIENCE_S

Message = dict[str, Any]


class Client:
    """Says messages, and hears them."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.heard: list[Message] = []

    async def say(self, **message: Any) -> None:
        await self.socket.send_str(json.dumps(message))

    async def generate(self, name: str, request: Message, **more: Any) -> None:
        await self.say(type="generate", id=name, request=request, **more)

    async def hear(self) -> Message:
        """The next message."""
        async with asyncio.timeout(PATIENCE_S):
            message = json.loads(await self.socket.receive_str())
        self.heard.append(message)
        assert isinstance(message, dict)
        return message

    async def until(self, kind: str, **fields: Any) -> Message:
        """Hear messages up to one of this kind, with these fields."""
        while True:
            message = await self.hear()
            if message["type"] == kind and fields.items() <= message.items():
                return message

    def of(self, name: str, kind: str | None = None) -> list[Message]:
        """What was heard of an id."""
        return [m for m in self.heard if m.get("id") == name and kind in (None, m["type"])]

    def text(self, name: str) -> str:
        return "".join(text_of(message["chunk"]) for message in self.of(name, "token"))


def text_of(chunk: Message) -> str:
    """What a chunk of an answer adds to its text."""
    return "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])


def sse(body: bytes, **changes: Any) -> Script:
    """A streamed answer of a provider."""
    return Script(body, content_type="text/event-stream", **changes)


@asynccontextmanager
async def socket(url: str, **options: Any) -> AsyncIterator[Client]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url + "/v1/stream", max_msg_size=0, **options) as opened,
    ):
        yield Client(opened)
