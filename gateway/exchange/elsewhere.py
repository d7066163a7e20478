"""Answers that other gateways have for this one, and this one for them: the cache beyond the own log.

The log stays the first place to look, and the only one for what it has: a store gives what is needed to render an
answer that another gateway's log holds.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from eventstore.catalogue.request import RequestCompleted
from eventstore.errors import LogCorrupt
from eventstore.log import Log
from eventstore.value import value
from gateway.exchange.claims import Place, age_s
from gateway.exchange.copied import Copied, pack, unpack
from gateway.exchange.ids import stream_of
from gateway.exchange.recorded import frames_of
from gateway.exchange.render import NotRenderable
from gateway.exchange.shared import may_serve_others

logger = logging.getLogger(__name__)

LARGEST = 1 << 20
"""Bytes of an answer's copy; a larger one stays where it is."""
LAST_S = 1.0
"""How long an end waits for what is on its way to the store."""


class Store(Protocol):
    """Keeps bytes by the digest of what was asked; never raises."""

    async def get(self, digest: str) -> bytes | None:
        """What is there, if it can be had soon."""

    async def put(self, digest: str, value: bytes, age_s: float) -> None:
        """Keep it for so many seconds."""


@value
class Copy:
    """An answer of another gateway, `age_s` seconds after its request came in there; `data` is what it was read from.
    `here`: this log has it too."""

    copied: Copied
    data: bytes
    age_s: float
    here: bool


class Elsewhere:
    """`keep_s`: how long an answer stays in the store, in seconds. Times are microseconds since 1970 UTC on the steady
    clock, so that a jump of ours makes no answer old, here or there."""

    def __init__(self, log: Log, store: Store, keep_s: float) -> None:
        self._log, self._store, self._keep_s = log, store, keep_s
        self._tasks: set[asyncio.Task[None]] = set()

    async def find(self, place: Place, now_us: int) -> Copy | None:
        """The answer that the store has for a place of the cache."""
        if place.kind != "cache" or place.fresh or (data := await self._store.get(place.request)) is None:
            return None
        try:
            copied = unpack(data)
        except NotRenderable:
            return None
        age = age_s(copied.at, now_us)
        if age > place.max_age_s:
            return None
        return Copy(copied, data, round(age, 3), await self._is_here(copied.request_id))

    async def _is_here(self, request_id: str) -> bool:
        """Whether the own log has it, as it was written."""
        try:
            own = await self._log.read_stream(stream_of(request_id))
        except LogCorrupt as error:
            logger.error("the copy of an answer is given where the log is damaged: %s", error)
            return False
        return bool(own) and own[-1].type == RequestCompleted.type

    def publish(self, place: Place, request_id: str, now_us: int) -> None:
        """Put the answer of a request that ended into the store, beside everything else."""
        if place.kind == "cache" and self._keep_s:
            task = asyncio.create_task(self._publish(place, request_id, now_us))
            self._tasks.add(task)
            task.add_done_callback(self._published)

    def _published(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("an answer was not given to other gateways: %s", type(error).__name__)

    async def _publish(self, place: Place, request_id: str, now_us: int) -> None:
        events = await self._log.read_stream(stream_of(request_id))
        if not may_serve_others(events):
            return
        at = now_us - int(events[-1].body["duration_ms"] * 1000)
        data = pack(events, await frames_of(self._log, events, events[-1].position), at)
        if len(data) <= LARGEST:
            await self._store.put(place.request, data, self._keep_s)

    async def close(self) -> None:
        """Wait a moment for what is on its way."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=LAST_S)
            for task in late:
                task.cancel()
