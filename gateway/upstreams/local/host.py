"""The models that are loaded now: each once for all requests, gone when asked, when memory is short, or at the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from eventstore.catalogue.event import Event
from eventstore.catalogue.model import ModelLoaded, ModelUnloaded
from eventstore.catalogue.values import milliseconds
from gateway.upstreams.local.found import Place
from gateway.upstreams.local.memory import short_of_memory
from gateway.upstreams.local.process import WorkerProcess

LOOK_S = 5.0
"""How often memory is looked at."""

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Slot:
    """A model that is loaded or being loaded, and who uses it. `unload`: the last user is to have it unloaded."""

    provider: str
    engine: str
    model: str
    users: int = 0
    unload: bool = False
    used_at: float = 0.0
    process: WorkerProcess | None = None
    loading: asyncio.Task[WorkerProcess] = field(init=False)

    @property
    def key(self) -> tuple[str, str]:
        return self.engine, self.model


class Host:
    """Loads and unloads. `record` puts an event into the log; `short` says whether memory is short."""

    def __init__(
        self,
        record: Callable[[Event], Awaitable[None]],
        monotonic: Callable[[], float],
        short: Callable[[], bool] = short_of_memory,
    ) -> None:
        self._record, self._monotonic, self._short = record, monotonic, short
        self._slots: dict[tuple[str, str], Slot] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def acquire(self, provider: str, engine: str, model: str, place: Place) -> tuple[Slot, WorkerProcess]:
        """The model, loaded; `release` it. However many ask, it is loaded once.

        Raises `gateway.upstreams.local.process.Refused`, `UpstreamFailure`.
        """
        slot = self._slots.get((engine, model))
        if slot is None:
            slot = self._slots[engine, model] = Slot(provider, engine, model)
            slot.loading = asyncio.create_task(self._load(slot, place))
            slot.loading.add_done_callback(_heard)
        slot.users += 1
        try:
            return slot, await asyncio.shield(slot.loading)
        except BaseException:
            self.release(slot)
            raise

    def release(self, slot: Slot, unload: bool = False) -> None:
        """One user less; `unload` ends the model with its last one."""
        slot.users -= 1
        slot.unload |= unload
        slot.used_at = self._monotonic()
        if slot.unload and not slot.users and slot.process is not None:
            self._spawn(self._unload(slot, "asked"))

    async def watch(self) -> None:
        """Unload what is idle whenever memory is short, for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.relieve()

    async def relieve(self) -> None:
        """If memory is short, unload the model that has been idle for longest."""
        idle = [slot for slot in self._slots.values() if not slot.users and slot.process is not None]
        if idle and self._short():
            await self._unload(min(idle, key=lambda slot: slot.used_at), "memory")

    async def close(self) -> None:
        """Unload everything."""
        slots = list(self._slots.values())
        for slot in slots:
            slot.loading.cancel()
        await asyncio.gather(*(slot.loading for slot in slots), return_exceptions=True)
        await asyncio.gather(*(self._unload(slot, "shutdown") for slot in slots))
        await asyncio.gather(*self._tasks)

    async def _load(self, slot: Slot, place: Place) -> WorkerProcess:
        try:
            await self.relieve()
            began = self._monotonic()
            process = await WorkerProcess.start(slot.engine, slot.model, place)
            try:
                loaded = await process.loaded()
            except BaseException:
                process.kill()
                await process.close()
                raise
        except BaseException:
            self._forget(slot)
            raise
        slot.process = process
        self._spawn(self._mourn(slot, process))
        await self._record(
            ModelLoaded(
                provider=slot.provider,
                model=slot.model,
                device=loaded["device"],
                load_ms=milliseconds(self._monotonic() - began),
                memory_bytes=loaded["memory_bytes"],
                pid=process.pid,
            )
        )
        return process

    async def _mourn(self, slot: Slot, process: WorkerProcess) -> None:
        """Wait for the end of a worker; one that nobody asked for is a crash."""
        why = await process.lost
        if self._forget(slot):
            logger.warning("%s", why)
            await process.close()
            await self._ended(slot, process, "crashed")

    async def _unload(self, slot: Slot, reason: Literal["asked", "memory", "shutdown"]) -> None:
        process = slot.process
        if slot.users and reason != "shutdown":
            return  # somebody came in the meantime
        if process is not None and self._forget(slot):
            await process.close()
            await self._ended(slot, process, reason)

    async def _ended(
        self, slot: Slot, process: WorkerProcess, reason: Literal["asked", "memory", "shutdown", "crashed"]
    ) -> None:
        await self._record(
            ModelUnloaded(
                provider=slot.provider, model=slot.model, reason=reason, requests=process.requests, pid=process.pid
            )
        )

    def _forget(self, slot: Slot) -> bool:
        """The next request loads the model anew. False where that was so already."""
        if self._slots.get(slot.key) is not slot:
            return False
        del self._slots[slot.key]
        return True

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _heard(loading: asyncio.Task[WorkerProcess]) -> None:
    """A load that failed after all who waited had left is no mystery."""
    if not loading.cancelled():
        loading.exception()
