"""The gateway's edge and its handlers on a real socket, over a real log and real projections; no upstream, no follower
process: the projections are folded when a query waits for them, unless a test holds them back."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from eventstore.catalogue import Event
from eventstore.envelope import ANY_VERSION, Appended, StreamWrite
from eventstore.frames import FrameRun
from eventstore.reader import Reader
from eventstore.sqlite import SQLiteLog, wall_clock_us
from gateway.api import docs, events, health, metrics, models, providers, requests, tickets, usage
from gateway.api.answers import json_response
from gateway.app import EXCHANGES, PROTOCOLS
from gateway.app import ROUTES as ALL_ROUTES
from gateway.auth import Authenticator, RejectionLimiter
from gateway.config import Settings
from gateway.discovery import Discovery
from gateway.docs.document import Document
from gateway.edge import KEY_ID, Edge, request_id
from gateway.errors import GatewayError
from gateway.exchange.ids import request_id as make_id
from gateway.json_guard import check_ids, read_json
from gateway.provider_settings import ProviderSettings
from gateway.redaction import Redactor
from gateway.services import SERVICES, Services
from gateway.tickets import Tickets
from gateway.upstreams.upstream import ModelInfo, Provider, UpstreamFailure
from projections import db
from projections.engine import Engine

KEY = b"k" * 32
HOP = "n00000000abcdefgh"
RUN = FrameRun(0)


class Clock:
    """Monotonic seconds that move when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Listed:
    """A family that lists what a test gives it, and counts how often it was asked. A list, an error, or a wait."""

    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    family: str = "listed"

    async def models(self, provider: Provider, api_key: str | None) -> list[ModelInfo]:
        self.asked.append(provider.name)
        answer = self.answers.get(provider.name, [])
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            answer = self.answers[f"{provider.name} then"]
        if isinstance(answer, Exception):
            raise answer
        return list(answer)


def provider(name: str, **changed: Any) -> Provider:
    return replace(Provider(name=name, family="listed", base_url=f"http://{name}.test/v1"), **changed)


class Folding:
    """A follower in this process: folds when it is waited for. `held` makes it lag."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._engine: Engine | None = None
        self.held = False
        self.status: dict[str, Any] = {}

    async def wait_for(self, projection: str, position: int, timeout: float) -> bool:
        if self.held:
            return False
        if self._engine is None:
            self._engine = Engine(self._data_dir, Reader(self._data_dir))
        while self._engine.step():
            pass
        self.status["projections"] = self._engine.status()
        return self._engine.positions()[projection] >= position


@dataclass
class Served:
    """What a test has at hand: where to call, and what is behind."""

    url: str
    client: aiohttp.ClientSession
    log: SQLiteLog
    follower: Folding
    family: Listed
    clock: Clock
    services: Services
    recorded: list[tuple[str, GatewayError]]
    trouble: list[str]
    app: web.Application

    async def get(self, path: str, **options: Any) -> tuple[int, Any, Mapping[str, str]]:
        async with self.client.get(self.url + path, **options) as answer:
            return answer.status, await _body(answer), answer.headers

    async def post(self, path: str, **options: Any) -> tuple[int, Any, Mapping[str, str]]:
        async with self.client.post(self.url + path, **options) as answer:
            return answer.status, await _body(answer), answer.headers

    async def add(self, *recorded: Event) -> Appended:
        """Record events, each on its request's stream."""
        appended = Appended(0, 0, 0)
        for event in recorded:
            stream = f"request-{event.request_id}"  # type: ignore[attr-defined]  # all that tests add have one
            appended = await self.log.append(StreamWrite(stream, ANY_VERSION, (event.new(),)))
        return appended


async def _body(answer: aiohttp.ClientResponse) -> Any:
    return await answer.json() if answer.content_type == "application/json" else await answer.text()


async def echo(request: web.Request) -> web.Response:
    """Stands where an endpoint runs an exchange: reads a body as those do."""
    body, raw = await read_json(request)
    check_ids(body)
    return json_response({"key": request[KEY_ID], "id": request_id(request), "body": body, "length": len(raw)})


async def broken(request: web.Request) -> web.Response:
    raise RuntimeError("boom: sk-a-secret-of-ours /etc/passwd")


async def begun(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"the beginning")
    raise RuntimeError("boom")


ROUTES: Sequence[web.RouteDef] = (
    web.get("/health", health.health),
    web.get("/", docs.index),
    web.get("/docs", docs.swagger),
    web.get("/redoc", docs.redoc),
    web.get("/docs/assets/{name}", docs.asset),
    web.get("/openapi.json", docs.openapi),
    web.get("/v1/models", models.list_models),
    web.get("/v1/models/{id:.*}", models.one_model),
    web.get("/providers", providers.list_providers),
    web.post("/v1/providers/test", providers.test),
    web.post("/v1/tickets", tickets.issue_ticket),
    web.get("/v1/usage", usage.usage),
    web.get("/v1/requests", requests.list_all),
    web.get("/v1/requests/{id}", requests.one),
    web.get("/v1/requests/{id}/events", requests.events),
    web.get("/v1/requests/{id}/stream", requests.stream),
    web.get("/v1/metrics", metrics.metrics),
    web.get("/metrics", metrics.metrics),
    web.post("/v1/chat/completions", echo),
    web.get("/v1/broken", broken),
    web.get("/v1/begun", begun),
)


@asynccontextmanager
async def serving(
    data_dir: Path,
    *,
    settings: Settings | None = None,
    offered: Mapping[str, Provider] | None = None,
    pace: events.Pace | None = None,
    edge: Callable[..., Edge] = Edge,
    redactor: Redactor | None = None,
) -> AsyncIterator[Served]:
    """A server on a free port, for as long as the block lasts."""
    settings = settings or Settings(data_dir=data_dir)
    log = await SQLiteLog.open(data_dir, durability="process")
    trouble: list[str] = []
    clock, family, follower = Clock(), Listed(), Folding(data_dir)
    offered = offered or {name: provider(name) for name in ("alpha", "beta")}
    redactor = redactor or Redactor(KEY, settings.secrets())
    upstreams: dict[str, Any] = {"listed": family}
    projections = db.Reader(data_dir)

    async def read_projections(query: Callable[[sqlite3.Connection], Any]) -> Any:
        return await asyncio.to_thread(lambda: query(projections.rows()))

    offered = dict(offered)
    services = Services(
        settings=settings, log=log, providers=offered, upstreams=upstreams, follower=follower,
        provider_settings=ProviderSettings(log, offered, settings),
        read_projections=read_projections, tickets=Tickets(clock), redactor=redactor,
        discovery=Discovery(offered, upstreams, redactor, clock, patience_s=0.5),
        now_us=wall_clock_us, steady_us=wall_clock_us, monotonic=time.monotonic, started_at=wall_clock_us(),
        trouble=lambda: trouble,
    )  # fmt: skip
    recorded: list[tuple[str, GatewayError]] = []

    async def record(request: web.Request, error: GatewayError) -> None:
        recorded.append((request_id(request), error))

    door = edge(
        settings.host, HOP, Authenticator(settings.api_key, redactor, services.tickets), RejectionLimiter(clock),
        record, EXCHANGES, PROTOCOLS, settings.debug,
    )  # fmt: skip
    app = web.Application(middlewares=[door.middleware])
    app[SERVICES] = services
    app[docs.DOCUMENT] = Document(ALL_ROUTES)
    app[events.CLOSING] = asyncio.Event()
    app.on_shutdown.append(events.close_feeds)
    app.add_routes([*ROUTES, web.get("/v1/events/stream", events.event_stream(pace or events.Pace(look_s=0.01)))])
    runner = web.AppRunner(app, lingering_time=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with aiohttp.ClientSession() as client:
            yield Served(url, client, log, follower, family, clock, services, recorded, trouble, app)
    finally:
        await services.discovery.close()
        await runner.cleanup()
        await log.close()
        projections.close()


_COUNT = itertools.count(1)


def new_id() -> str:
    """A request id, later ones sorting behind earlier ones."""
    return make_id(1_795_219_200_000 + next(_COUNT), bytes(16))


__all__ = ["HOP", "KEY", "Clock", "Folding", "Listed", "Served", "UpstreamFailure", "new_id", "provider", "serving"]
