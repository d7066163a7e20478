"""What the handlers are given: everything that the composition root has put together, as one frozen value."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from aiohttp import web

from gateway.routing.choose import Route, choose, unlisted

if TYPE_CHECKING:
    import sqlite3

    from eventstore.log import Log
    from gateway.config import Settings
    from gateway.configuration import Configuration
    from gateway.discovery import Discovery
    from gateway.provider_settings import ProviderSettings
    from gateway.redaction import Redactor
    from gateway.tickets import Tickets
    from gateway.upstreams.upstream import Provider, Upstream

T = TypeVar("T")


class FollowerLike(Protocol):
    """The process that relays and projects, as the handlers see it."""

    @property
    def status(self) -> Mapping[str, Any]:
        """The latest word from it: `projections` {name: {position, version, halted}}, `relay`, `nats`; whatever is
        missing is not known yet."""

    async def wait_for(self, projection: str, position: int, timeout: float) -> bool:  # noqa: ASYNC109 - an answer, not an error
        """Whether the projection reached the position within `timeout` seconds."""


class ReadProjections(Protocol):
    """Runs a synchronous query, in a thread, over a read-only connection to projections.db."""

    async def __call__(self, query: Callable[[sqlite3.Connection], T]) -> T: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """`providers` by name, `upstreams` by family. `now_us`: microseconds since 1970 UTC; `steady_us`: the same on a
    clock that no jump moves; `monotonic`: seconds on a clock that never goes back; `started_at`: when the server
    started, on `steady_us`. `trouble` names what keeps the gateway itself from working (a log that cannot write),
    `ails` what is not well beside it; empty where all is. `configuration`: the file of virtual models, where there is
    one. `telling`: held by the one feed that composes what it shows."""

    settings: Settings
    log: Log
    providers: Mapping[str, Provider]
    upstreams: Mapping[str, Upstream]
    follower: FollowerLike
    read_projections: ReadProjections
    tickets: Tickets
    discovery: Discovery
    provider_settings: ProviderSettings
    redactor: Redactor
    now_us: Callable[[], int]
    steady_us: Callable[[], int]
    monotonic: Callable[[], float]
    started_at: int
    trouble: Callable[[], list[str]] = list
    ails: Callable[[], list[str]] = list
    configuration: Configuration | None = None
    telling: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def route(self, name: str) -> Route:
        """Where a name leads. Providers are asked for their lists where it hangs on them and nobody is known to have
        it. Raises `InvalidRequest`, `NotFound`."""
        known = (self.providers, self.settings.provider, self.discovery.listed())
        if unlisted(name, *known):
            await self.discovery.listings()
        return choose(name, *known)

    def stands_for(self, name: str) -> tuple[str, ...]:
        """The models that a name means: itself, or the members of a virtual one."""
        virtual = None if self.configuration is None else self.configuration.models.get(name)
        return (name,) if virtual is None else tuple(member.model for member in virtual.members)


SERVICES = web.AppKey("services", Services)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
