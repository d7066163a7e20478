"""The whole gateway in this process, on a free port, before scripted upstreams; and its log at hand."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from eventstore.catalogue.request import TERMINAL
from eventstore.envelope import RecordedEvent
from gateway.api.outlet import Pace
from gateway.command_line import load
from gateway.exchange.ids import stream_of
from gateway.server import Server
from tests.crash.load import environ
from tests.gateway.raw import Received, ask

PROMPT = [{"role": "user", "content": "Tell me."}]
COMPATIBLE = "POST /v1/chat/completions"
KERNEL_BYTES = 16 << 10
PATIENCE_S = 60.0
"""A harness's limit, so that a failure ends; no test is about it."""


def chat(model: str = "openai-compatible/m", **fields: Any) -> dict[str, Any]:
    """A chat completions body."""
    return {"model": model, "messages": PROMPT, **fields}


class Paced(Server):
    """A server with another pace towards its clients, and little room for them in the kernel."""

    pace = Pace()

    async def _listen(self, listening: socket.socket) -> asyncio.Server:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)  # its connections inherit it
        return await super()._listen(listening)

    def _compose(self) -> None:
        super()._compose()
        self.desk = replace(self.desk, pace=self.pace)


class Gateway:
    """A running server, and questions to its log."""

    def __init__(self, server: Server) -> None:
        self.server, self.url = server, server.url

    async def ask(self, body: Any, **headers: str) -> Received:
        """One chat request on a connection of its own."""
        async with asyncio.timeout(PATIENCE_S):
            return await ask(self.url, body, **headers)

    async def events(self, request_id: str) -> list[RecordedEvent]:
        """What the log has of a request now."""
        return await self.server.log.read_stream(stream_of(request_id))

    async def ended(self, request_id: str) -> list[RecordedEvent]:
        """All events of a request, once it has its terminal one, which is the only one and the last."""
        async with asyncio.timeout(PATIENCE_S):
            async for _ in self.server.log.follow(0):
                events = await self.events(request_id)
                if any(event.type in TERMINAL for event in events):
                    break
        assert [event.type in TERMINAL for event in events] == [False] * (len(events) - 1) + [True]
        return events

    async def end_of(self, request_id: str) -> dict[str, Any]:
        """The terminal event."""
        return (await self.ended(request_id))[-1].body

    async def generation(self, request_id: str) -> dict[str, Any]:
        """The event that ended its only generation."""
        ends = [e for e in await self.ended(request_id) if e.type in {"generation_completed", "generation_failed"}]
        assert len(ends) == 1
        return ends[0].body


@asynccontextmanager
async def gateway(
    data_dir: Path, base_url: str, *args: str, kind: type[Server] = Server, env: Mapping[str, str] | None = None
) -> AsyncIterator[Gateway]:
    """A server whose providers are all at `base_url`, for as long as the block lasts."""
    flags = ["--port", "0", "--nats", "off", "--data-dir", str(data_dir), "--durability", "process", *args]
    server = kind(load(flags, {**environ(base_url), **(env or {})}))
    await server.start()
    try:
        yield Gateway(server)
    finally:
        await server.stop()
