"""How history that comes back travels from the follower, which reads JetStream, to the gateway, which owns the log.

follower -> gateway   {"take": [event…], "number": N}
                      event: [origin, oseq, data, digest, [row…] before, [row…] after]
                      row:   [origin, opened, frame, count, offset_us, codec, bytes]   (bytes in base64)
gateway -> follower   {"taken": {"events", "frames", "last", "refused"}, "number": N}
"""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from eventstore.ingest import PulledEvent, PulledFrames, Taken
from gateway.follower.channel import Channel


class Handover:
    """The follower's side: one piece under way at a time."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._number = 0
        self._answer: asyncio.Future[Taken] | None = None

    async def take(self, pulled: Sequence[PulledEvent]) -> Taken:
        """As `SQLiteLog.ingest`, by way of the gateway."""
        self._number += 1
        self._answer = asyncio.get_running_loop().create_future()
        await self._channel.send({"take": [_said(event) for event in pulled], "number": self._number})
        return await self._answer

    def answered(self, message: dict[str, Any]) -> None:
        """The gateway's answer is here."""
        waiting = self._answer
        if waiting is not None and not waiting.done() and message["number"] == self._number:
            waiting.set_result(Taken(**message["taken"]))


def understood(message: dict[str, Any]) -> list[PulledEvent]:
    """The events of a piece, on the gateway's side."""
    return [
        PulledEvent(origin, oseq, b64decode(data), b64decode(digest), _rows(before), _rows(after))
        for origin, oseq, data, digest, before, after in message["take"]
    ]


def answer(message: dict[str, Any], taken: Taken) -> dict[str, Any]:
    """What the gateway says to a piece."""
    return {"taken": asdict(taken), "number": message["number"]}


def _said(event: PulledEvent) -> list[Any]:
    rows = [
        [
            [row.origin, row.opened, row.frame, row.count, row.offset_us, row.codec, b64encode(row.bytes).decode()]
            for row in side
        ]
        for side in (event.before, event.after)
    ]
    return [event.origin, event.oseq, b64encode(event.data).decode(), b64encode(event.digest).decode(), *rows]


def _rows(said: Sequence[Sequence[Any]]) -> tuple[PulledFrames, ...]:
    return tuple(
        PulledFrames(origin, opened, frame, count, offset_us, codec, b64decode(packed))
        for origin, opened, frame, count, offset_us, codec, packed in said
    )
