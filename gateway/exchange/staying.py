"""A client whose leaving does not end its answer: somebody else waits for it, or may come back for it."""

from __future__ import annotations

from collections.abc import Mapping

from eventstore.catalogue.values import Usd
from gateway.exchange.outlet import Outlet


class Staying:
    """An outlet that is gone only while nobody else wants the answer (`stays`). `most_cost`: what its client said that
    the answer may cost; `own`: what it is told once the request is recorded, which has its own answer then."""

    def __init__(
        self, outlet: Outlet, stays: bool, most_cost: Usd | None = None, own: Mapping[str, str] | None = None
    ) -> None:
        self._outlet, self.stays, self.most_cost, self._own = outlet, stays, most_cost, own or {}

    @property
    def began(self) -> bool:
        return self._outlet.began

    def prepare(self, headers: Mapping[str, str]) -> None:
        self._outlet.prepare({**headers, **self._own} if "x-abstractcore-position" in headers else headers)

    async def release(self, data: bytes) -> None:
        await self._outlet.release(data)

    def ending(self) -> None:
        self._outlet.ending()

    async def finish(self, data: bytes) -> None:
        await self._outlet.finish(data)

    async def abort(self) -> None:
        await self._outlet.abort()

    def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self._outlet.answer(status, headers, body)

    def gone(self) -> bool:
        return not self.stays and self._outlet.gone()

    def tick(self, now: float) -> None:
        self._outlet.tick(now)
