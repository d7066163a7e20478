"""The server's life: everything is put together, started, and ended, in an order that loses nothing.

Start: take the log, say so, start the follower, get lost history back, publish prices, end what is open, then listen.
End: listen no more, let running answers finish for a while, record the rest as interrupted, say so, let the follower
relay what there is, close the log.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import AsyncExitStack
from functools import partial

from aiohttp import web

from eventstore.catalogue.control import NodeStarted, NodeStopped
from eventstore.catalogue.event import Event
from eventstore.envelope import ANY_VERSION, StreamWrite
from eventstore.reader import Reader
from eventstore.sqlite import SQLiteLog, wall_clock_us
from gateway import composition, listener
from gateway.api.exchange import Desk, caller_of, outlet_for, pattern
from gateway.api.sessions import CONVERSATIONS
from gateway.app import EXCHANGES, PROTOCOLS, make_app
from gateway.archivist import Archivist
from gateway.caches import open_caches, open_nearest
from gateway.circuits import Circuits
from gateway.commands import Commands
from gateway.config import Settings
from gateway.configuration import Configuration
from gateway.connection import Connection
from gateway.control import ControlServer
from gateway.discovery import Discovery
from gateway.embedder import Embedder
from gateway.errors import GatewayError
from gateway.examples import Examples
from gateway.exchange.run import Exchanges
from gateway.exchange.running import Halt, Watch
from gateway.exchange.submit import unread
from gateway.follower.supervise import Follower
from gateway.lost_end import LostEnd
from gateway.media.fetch import Fetcher
from gateway.pricing import Prices
from gateway.provider_settings import ProviderSettings
from gateway.recovery import Recovery
from gateway.redaction import Redactor, load_key
from gateway.release import release
from gateway.reports import Reports
from gateway.routing.order import ORDERINGS
from gateway.services import Services
from gateway.steady import steady_from
from gateway.tickets import Tickets
from gateway.tools.service import ToolService
from gateway.upstreams.http import HttpClient
from gateway.upstreams.local.family import EMBEDDING
from gateway.upstreams.local.host import Host
from gateway.upstreams.upstream import Upstream
from gateway.virtual_models import VirtualModels
from gateway.wire.tooltext.models import ToolModes, rules_of
from gateway.works import Work, Works
from projections.files import set_aside
from projections.registry import REGISTRY

RECORD_S = 5.0
"""How long the interrupted ones get to be recorded; recovery ends any that were not."""
MARK_S = 5.0
"""How often the low-water mark is moved."""
DISK_REFUSED = 74
"""Exit code after the disk refused a write or a sync (EX_IOERR of sysexits.h)."""

logger = logging.getLogger(__name__)


class Server:
    """One gateway on one data directory. `start`, then `wait`, then `stop`. `url` is where it listens."""

    connection = Connection
    """The class of its connections; tests give it less patience."""
    runs = Exchanges
    store = SQLiteLog
    caching = staticmethod(open_caches)
    likeness = staticmethod(open_nearest)
    clock = staticmethod(steady_from)
    """What runs its exchanges, keeps its log, opens the caches beside it and tells the time; tests prove its worth with
    broken ones."""
    mark_s = MARK_S
    configuration: Configuration | None = None
    virtual: VirtualModels | None = None
    """What `--config` names, where it names anything."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.url = ""
        self.exit_code = 0
        self.works = Works(time.monotonic)
        self._ended = asyncio.Event()
        self._interrupted = 0
        self._reason = "failed start"
        self._opened = AsyncExitStack()
        """How to close what was opened, the last first."""

    async def start(self) -> None:
        """Everything, in order; nothing stays open where it fails.

        Raises `LogLocked`, `LogCorrupt`, `LogUnavailable`, `OSError` for a port that is taken.
        """
        try:
            await self._start()
        except BaseException:
            await self._opened.aclose()
            raise

    async def _start(self) -> None:
        settings, opened = self.settings, self._opened
        if settings.config is not None:
            self.configuration = Configuration(settings.config, ORDERINGS, self._say)
            self.configuration.load()
        listening = listener.bound(settings.host, settings.port)
        opened.callback(listening.close)
        self.backends, self.providers = composition.backends_and_providers(settings, listening.getsockname()[1])
        await self._open_log()
        await self._connect()
        self._compose()
        if self.configuration is not None:
            await self.configuration.announce(self.examples.learn)
        await self._follow()
        sealed = await self._restore()
        await self.recovery.recover()
        opened.push_async_callback(self.tools.close)
        await self.tools.start(sealed)
        await self._serve(listening)

    async def _open_log(self) -> None:
        """Take the log, and say in it that this node starts."""
        settings = self.settings
        self.log = await self.store.open(settings.data_dir, durability=settings.durability, on_fatal=self._refused)
        self._opened.push_async_callback(self.log.close)
        self.lost_end = LostEnd(settings.data_dir, self.log)
        await self.lost_end.look()
        if self.log.previous is None:
            for kept in set_aside(settings.data_dir, REGISTRY):
                logger.warning("a file that was there before the log is kept as %s", kept.name)
        self.redactor = Redactor(load_key(settings.data_dir), settings.secrets())
        shown = composition.recorded_settings(settings, self.redactor)
        await self._say(NodeStarted(node=self._node, release=release(), previous=self.log.previous, settings=shown))
        (started,) = await self.log.read_stream(f"node-{self.log.origin}")
        self.steady_us = self.clock(started.at)

    async def _connect(self) -> None:
        """What keeps what the log says of providers and prices, and the clients of what is outside."""
        self.provider_settings = ProviderSettings(self.log, self.providers, self.settings)
        self.price = self.prices = Prices(self.providers)
        self.http = HttpClient(self._node)
        self._opened.push_async_callback(self.http.close)
        self.tools = ToolService(self.log, self.settings, self.redactor, time.monotonic)
        self.caches = await self.caching(self.settings, self.log, self._opened)

    async def _restore(self) -> int:
        """What the log says of providers, of prices and of how providers did, once it has back what it may lack; the
        position up to which it is archived."""
        with Reader(self.settings.data_dir) as reader:
            sealed = reader.sealed()
            kept = self.provider_settings, self.tools.registry
            await self.recovery.past(self.lost_end.found, reader, self.providers, kept)
            await self.provider_settings.restore(sealed)
            await self.prices.load(self.log)
            self.circuits.restore(reader, self.providers, self.steady_us())
            if self.virtual is not None:
                self.virtual.restore(reader)
        return sealed

    async def _follow(self) -> None:
        """Start the process that relays and projects. What is opened here ends while it still runs."""
        opened = self._opened
        opened.push_async_callback(self.discovery.close)
        opened.push_async_callback(self.fetcher.close)
        self.follower = Follower(self.settings, self.log.origin, self.log.ingest)
        self.recovery = Recovery(self.settings.data_dir, self.log, self.price, self.follower, self._positions)
        opened.push_async_callback(self.follower.stop)
        opened.push_async_callback(self._farewell)
        opened.push_async_callback(self.models.close)
        await self.follower.start()
        self.log.on_commit = self.follower.notify
        self.follower.notify(await self.log.head())

    @property
    def _node(self) -> str:
        """This node's name, the same over restarts."""
        return self.log.origin[:9]

    def _compose(self) -> None:
        """What handlers and exchanges share."""
        settings = self.settings
        self.models = Host(self._say_of_model, time.monotonic)
        self.upstreams: Mapping[str, Upstream] = composition.upstreams(settings, self.http, self.models, self.backends)
        self.fetcher = Fetcher(settings.file_url_allowlist)
        self.discovery = Discovery(self.providers, self.upstreams, self.redactor, time.monotonic)
        refusing = settings.circuit == "refuse"
        self.circuits = Circuits(self.log, self.redactor, settings.circuit_cool_down_s, refusing)
        if self.configuration is not None:
            self.virtual = self._virtual_models(self.configuration)
        self.exchanges = self._exchanges()
        self.nearest = self.likeness(settings, self.log, self.models)
        self.desk = Desk(
            self.exchanges,
            composition.rules(settings, self.redactor),
            caching=composition.caching(settings),
            elsewhere=self.caches.elsewhere,
            nearest=self.nearest,
        )

    @property
    def _breakers(self) -> Circuits | None:
        """The circuits, where the settings want any to open."""
        return None if self.settings.circuit == "off" else self.circuits

    def _virtual_models(self, configuration: Configuration) -> VirtualModels:
        """What answers for the models that a file names."""
        settings = self.settings
        backend, model = EMBEDDING[settings.embedding_backend], settings.embedding_model
        self.examples = Examples(Embedder(self.models, backend, model, settings.models_root))
        return VirtualModels(
            configuration,
            self.examples,
            self.providers,
            self.discovery,
            self._capabilities,
            self.price,
            composition.policy(settings),
            settings.audio != "transcribe",
            self.steady_us,
            self._breakers,
        )

    def _exchanges(self) -> Exchanges:
        """What serves requests."""
        settings = self.settings
        return self.runs(
            log=self.log,
            providers=self.providers,
            upstreams=self.upstreams,
            price=self.price,
            redactor=self.redactor,
            default_provider=settings.provider,
            listed=self.discovery.listed,
            discover=self.discovery.listings,
            now_us=self.steady_us,
            monotonic=time.monotonic,
            debug=settings.debug,
            natives=composition.natives(self.backends),
            runner=self.tools.runner,
            tool_rounds=settings.tool_rounds,
            circuits=self._breakers,
            virtual=self.virtual,
            tools=ToolModes(rules_of(settings.tool_modes or ""), self._capabilities),
            media=composition.media(settings, self.fetcher, self._capabilities),
            transcribe=settings.transcribe_model if settings.audio == "transcribe" else None,
        )

    async def _serve(self, listening: socket.socket) -> None:
        """Answer on the socket, and begin the work that goes on beside the answers."""
        settings, opened = self.settings, self._opened
        self.reports = Reports(settings.data_dir)
        opened.callback(self.reports.close)
        tickets, dialects = Tickets(time.monotonic), (EXCHANGES, PROTOCOLS)
        edge = composition.edge(settings, self._node, self.redactor, tickets, dialects, self._record_refusal)
        app = make_app(self._services(tickets), self.desk, edge, self.tools)
        self._runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=1)
        opened.push_async_callback(self._runner.cleanup)
        await self._runner.setup()
        self._listener = await self._listen(listening)
        self.url = listener.url_of(settings.host, listening)
        self.archivist = Archivist(self.log, settings.data_dir, on_drop=app[CONVERSATIONS].store.forget)
        control = ControlServer(settings.data_dir, Commands(self.follower, self.archivist))
        opened.push_async_callback(control.stop)
        await control.start()
        opened.callback(self.works.end)
        for name, work in self._works():
            self.works.begin(name, work)

    def _services(self, tickets: Tickets) -> Services:
        """What handlers are given."""
        return Services(
            settings=self.settings,
            log=self.log,
            providers=self.providers,
            upstreams=self.upstreams,
            follower=self.follower,
            read_projections=self.reports,
            tickets=tickets,
            discovery=self.discovery,
            provider_settings=self.provider_settings,
            redactor=self.redactor,
            now_us=wall_clock_us,
            steady_us=self.steady_us,
            monotonic=time.monotonic,
            started_at=self.steady_us(),
            trouble=self._trouble,
            ails=self._ails,
            configuration=self.configuration,
        )

    def _works(self) -> Iterator[tuple[str, Work]]:
        """What goes on for as long as the server runs, by names for /health."""
        yield "timeouts", Watch(self.exchanges.open, composition.limits(self.settings), time.monotonic).run
        yield "models in this process", self.models.watch
        yield "low-water mark", partial(self.recovery.keep_mark, self.mark_s)
        yield "recovery", self.recovery.end_what_comes_back
        if self.nearest is not None:
            yield "semantic cache", self.nearest.warm
        if self.configuration is not None and self.virtual is not None:
            yield "configuration", self.configuration.watch
            yield "virtual models", self.virtual.ask

    async def _listen(self, listening: socket.socket) -> asyncio.Server:
        """Take connections, of our class."""
        return await listener.take(self.connection, self._runner, listening)

    async def wait(self) -> None:
        """Until somebody calls `end`, or the log can write no more."""
        await self._ended.wait()

    def end(self) -> None:
        """Ask for an orderly end."""
        self._ended.set()

    async def stop(self, reason: str = "signal") -> None:
        """End in order; after a fatal error of the log, only stop."""
        self._reason = reason
        if not self._trouble():
            await self._drain()
        await self._opened.aclose()

    async def _drain(self) -> None:
        """Take no more connections; give running answers time to finish; interrupt the rest."""
        self._listener.close()
        await self.exchanges.settled(self.settings.drain_timeout_s)
        # One whose end is recorded, and whose slow client still reads, is not interrupted.
        self._interrupted = sum(running.exchange.phase != "ended" for running in self.exchanges.open)
        for running in list(self.exchanges.open):
            running.end(Halt("shutdown"))
        await self.exchanges.settled(RECORD_S)

    async def _farewell(self) -> None:
        """Say that this node ends, while there is still somebody to relay it."""
        if not self._trouble():
            await self._say(NodeStopped(node=self._node, reason=self._reason, open_requests=self._interrupted))
            await self.recovery.mark()

    async def _say(self, event: Event) -> None:
        """An event of this node."""
        await self.log.append(StreamWrite(f"node-{self.log.origin}", ANY_VERSION, (event.new(),)))

    async def _say_of_model(self, event: Event) -> None:
        """The same, of a model that runs here; a server whose log cannot be written ends without."""
        if not self._trouble():
            await self._say(event)

    def _capabilities(self, provider: str, model: str) -> Collection[str]:
        """What a provider's model can: as it says, or by the nature of the provider."""
        if "prompted_tools" in self.providers[provider].traits:
            return ("completion",)
        return self.discovery.capabilities(provider, model)

    def _positions(self) -> Iterator[int]:
        """One before the first event of each thing that is open."""
        yield from (running.position for running in self.exchanges.open)
        yield from () if self.exchanges.unended is None else (self.exchanges.unended,)
        yield from self.tools.direct.open.values()
        yield from self.desk.groups.values()

    async def _record_refusal(self, request: web.Request, error: GatewayError) -> None:
        """A caller who did not get in."""
        route = pattern(request)
        await self.exchanges.refuse(
            unread(caller_of(request, route), EXCHANGES[route]), outlet_for(request, None), error
        )

    def _refused(self, error: Exception) -> None:
        """The disk refused: nothing can be recorded, so nothing may be served. Stop at once."""
        logger.critical("the log can write no more: %s", error)
        self.exit_code = DISK_REFUSED
        self._ended.set()

    def _ails(self) -> list[str]:
        found = [*self.lost_end.ails(), *self.works.ails(), *self.caches.ails()]
        if self.nearest is not None:
            found += self.nearest.ails()
        if self.configuration is not None and (problem := self.configuration.problem) is not None:
            found.append(f"configuration: the file as it is now cannot be used, what it said before holds: {problem}")
        return found

    def _trouble(self) -> list[str]:
        return ["the log cannot be written"] if self.exit_code else []
