"""What the gateway and its follower say to each other: one JSON object a line, over a socket pair.

gateway -> follower   first {"data_dir", "nats", "head", "log_level", "origin"}: credentials of `nats` travel here and
                      not on a command line; then {"head": N} as the log grows, {"rebuild": projection, "number": N} on
                      demand, {"taken": …} for each {"take": …} (see `taking`), {"stop": seconds, "head": N} at the end
follower -> gateway   whenever something changed, all of
                      {"projections": {name: {"position", "version", "halted": null | {"position", "type", "error"}}},
                       "projecting": {"error": null | text, "rebuilt": {name: number of the newest demand begun}},
                       "scrub": {"position", "passes", "findings": number of damaged rows, "first": null | position},
                       "relay": {"state", "ledger_position", "tokens_position", "head", "lag_events", "foreign",
                                 "failed_runs", "last_error", "pulled", "coming", "gone", "refused"},
                       "nats": {"state", "url", "token_file", "subscribe", "warning", "error"}}
                      and {"take": …}, events of earlier incarnations that JetStream has and the log lacks
The end of the stream means that the other process is gone.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Self

import orjson

LINE_BYTES = 32 << 20
"""More than the largest piece of history that comes back takes."""


class Channel:
    """One end of the socket pair."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def over(cls, sock: socket.socket) -> Self:
        """The channel over this end, which it owns from now on."""
        return cls(*await asyncio.open_unix_connection(sock=sock, limit=LINE_BYTES))

    async def receive(self) -> dict[str, Any] | None:
        """The next message, or None when the other process is gone."""
        try:
            line = await self._reader.readline()
        except (OSError, ValueError):  # reset, or a line that no peer of ours writes
            return None
        if not line.endswith(b"\n"):
            return None
        message: dict[str, Any] = orjson.loads(line)
        return message

    def post(self, message: dict[str, Any]) -> None:
        """Send without waiting; lost if the other process is gone, which `receive` will tell."""
        if not self._writer.is_closing():
            self._writer.write(orjson.dumps(message) + b"\n")

    async def send(self, message: dict[str, Any]) -> None:
        """Send, and wait while the other process is slow to read."""
        self.post(message)
        try:
            await self._writer.drain()
        except OSError:
            pass  # it is gone: `receive` says so

    def close(self) -> None:
        """Hang up."""
        self._writer.close()
