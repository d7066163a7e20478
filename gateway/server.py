"""The server's life: everything is put together, started, and ended, in an order that loses nothing.

Start: take the log, say so in it, publish prices, start the follower, end what a crash left open, then listen.
End: listen no more, let running answers finish for a while, record the rest as interrupted, say so, let the follower
relay what there is, close the log.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Collection, Coroutine, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from aiohttp import web

from eventstore.catalogue.control import NodeStarted, NodeStopped
from eventstore.catalogue.event import Event
from eventstore.envelope import ANY_VERSION, StreamWrite
from eventstore.reader import Reader
from eventstore.rows import FILE
from eventstore.sqlite import SQLiteLog, wall_clock_us
from gateway.api.exchange import Desk, caller_of, outlet_for, pattern
from gateway.api.groups import settle as settle_groups
from gateway.app import EXCHANGES, make_app
from gateway.archivist import Archivist
from gateway.auth import Authenticator, RejectionLimiter, is_loopback
from gateway.caches import open_caches, open_nearest
from gateway.circuits import Circuits
from gateway.config import Settings
from gateway.configuration import Configuration
from gateway.connection import Connection
from gateway.control import ControlError, ControlServer
from gateway.discovery import Discovery
from gateway.edge import Edge
from gateway.embedder import Embedder
from gateway.errors import GatewayError
from gateway.examples import Examples
from gateway.exchange.claims import Caching
from gateway.exchange.policy import Policy
from gateway.exchange.recover import LowWater, interrupt, open_streams
from gateway.exchange.run import Exchanges
from gateway.exchange.running import Halt, Limits, Watch
from gateway.exchange.submit import Rules, unread
from gateway.follower.supervise import Follower
from gateway.media.extract import Extractor
from gateway.media.fetch import Fetcher
from gateway.media.local import LocalFiles
from gateway.media.prepare import Media
from gateway.pricing import load_prices, price_by
from gateway.provider_settings import ProviderSettings
from gateway.redaction import Redactor, load_key
from gateway.release import release
from gateway.reports import Reports
from gateway.routing.order import ORDERINGS
from gateway.services import Services
from gateway.tickets import Tickets
from gateway.tools.execute import interrupt as end_runs
from gateway.tools.service import ToolService
from gateway.upstreams.anthropic import Anthropic
from gateway.upstreams.backends import load_backends
from gateway.upstreams.demo import Demo
from gateway.upstreams.http import HttpClient
from gateway.upstreams.local.family import EMBEDDING, MLX, TRANSFORMERS, LocalModels
from gateway.upstreams.local.host import Host
from gateway.upstreams.natives import NATIVES
from gateway.upstreams.ollama import Ollama
from gateway.upstreams.openai_compatible import OpenAICompatible
from gateway.upstreams.registry import providers
from gateway.upstreams.upstream import Upstream
from gateway.virtual_models import VirtualModels
from gateway.wire.tooltext.models import ToolModes, rules_of
from projections.files import set_aside
from projections.registry import REGISTRY

RECORD_S = 5.0
"""How long the interrupted ones get to be recorded; recovery ends any that were not."""
KEEPALIVE_S = 75.0
LINGER_S = 2.0
"""How long an answered request's body is still read, so that its client can hear the answer."""
MARK_S = 5.0
"""How often the low-water mark is moved."""
PAST_WITHIN_S = 3.0
"""How long a start with exchanges to end waits for NATS, which may hold their end."""
BACKLOG = 4096
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
    """What runs its exchanges, keeps its log and opens the caches beside it; tests prove its worth with broken ones."""
    mark_s = MARK_S
    configuration: Configuration | None = None
    virtual: VirtualModels | None = None
    """What `--config` names, where it names anything."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.url = ""
        self.exit_code = 0
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
        listening = listen(settings.host, settings.port)
        opened.callback(listening.close)
        port = listening.getsockname()[1]
        self.providers = providers(settings, port)
        self.backends = load_backends(settings.backends, self.providers)
        self.providers |= {backend.provider.name: backend.provider for backend in self.backends}
        self.log = await self.store.open(settings.data_dir, durability=settings.durability, on_fatal=self._refused)
        opened.push_async_callback(self.log.close)
        if self.log.previous is None:
            for kept in set_aside(settings.data_dir, REGISTRY):
                logger.warning("a file that was there before the log is kept as %s", kept.name)
        node = self.log.origin[:9]
        self.redactor = Redactor(load_key(settings.data_dir), settings.secrets())
        await self._say(
            NodeStarted(node=node, release=release(), previous=self.log.previous, settings=self._settings_said())
        )
        self.provider_settings = ProviderSettings(self.log, self.providers, settings)
        with Reader(settings.data_dir / FILE) as reader:
            sealed = reader.sealed()
        await self.provider_settings.restore(sealed)
        self.price = price_by(await load_prices(self.log, self.providers), self.providers)
        self.http = HttpClient(node)
        opened.push_async_callback(self.http.close)
        self.tools = ToolService(self.log, settings, self.redactor, time.monotonic)
        self.caches = await self.caching(settings, self.log, opened)
        self._compose(node, port)
        await self.circuits.restore(self.providers)
        if self.configuration is not None and self.virtual is not None:
            await self.configuration.announce(self.examples.learn)
            with Reader(settings.data_dir / FILE) as reader:
                self.virtual.restore(reader)
        opened.push_async_callback(self.discovery.close)
        opened.push_async_callback(self.fetcher.close)
        self.follower = Follower(settings, self.log.origin, self.log.ingest)
        opened.push_async_callback(self.follower.stop)
        opened.push_async_callback(self._farewell)
        opened.push_async_callback(self.models.close)
        await self.follower.start()
        self.log.on_commit = self.follower.notify
        self.follower.notify(await self.log.head())
        await self._recover()
        opened.push_async_callback(self.tools.close)
        await self.tools.start(sealed)
        await self._serve(listening, node)

    def _settings_said(self) -> dict[str, Any]:
        """The settings without secrets, those in URLs too (that of a NATS server can hold its token)."""
        shown = self.settings.redacted()
        return {name: self.redactor.url(v) if isinstance(v, str) else v for name, v in shown.items()}

    def _compose(self, node: str, port: int) -> None:
        """What handlers and exchanges share."""
        settings = self.settings
        self.models = Host(self._say_of_model, time.monotonic)
        families: tuple[Upstream, ...] = (
            OpenAICompatible(self.http),
            Anthropic(self.http),
            Ollama(self.http),
            LocalModels(
                "huggingface", TRANSFORMERS, self.models, settings.models_root, EMBEDDING[settings.embedding_backend]
            ),
            LocalModels("mlx", MLX, self.models, settings.models_root),
            Demo(),
            *self.backends,
        )
        self.upstreams: Mapping[str, Upstream] = {family.family: family for family in families}
        self.fetcher = Fetcher(settings.file_url_allowlist)
        self.discovery = Discovery(self.providers, self.upstreams, self.redactor, time.monotonic)
        off = settings.circuit == "off"
        refusing = settings.circuit == "refuse"
        self.circuits = Circuits(self.log, self.redactor, settings.circuit_cool_down_s, refusing)
        usual = Policy(settings.retries, settings.fallback, continuation=settings.continuation)
        if self.configuration is not None:
            backend, model = EMBEDDING[settings.embedding_backend], settings.embedding_model
            self.examples = Examples(Embedder(self.models, backend, model, settings.models_root))
            self.virtual = VirtualModels(
                self.configuration,
                self.examples,
                self.providers,
                self.discovery,
                self._capabilities,
                self.price,
                usual,
                settings.audio != "transcribe",
                wall_clock_us,
                None if off else self.circuits,
            )
        self.exchanges = self.runs(
            log=self.log,
            providers=self.providers,
            upstreams=self.upstreams,
            price=self.price,
            redactor=self.redactor,
            default_provider=settings.provider,
            listed=self.discovery.listed,
            now_us=wall_clock_us,
            monotonic=time.monotonic,
            debug=settings.debug,
            natives={**NATIVES, **{key: speech for each in self.backends for key, speech in each.speeches().items()}},
            runner=self.tools.runner,
            tool_rounds=settings.tool_rounds,
            circuits=None if off else self.circuits,
            virtual=self.virtual,
            tools=ToolModes(rules_of(settings.tool_modes or ""), self._capabilities),
            media=Media(
                self.fetcher,
                LocalFiles(settings.files_root),
                Extractor(),
                self._capabilities,
                settings.audio != "refuse",
            ),
            transcribe=settings.transcribe_model if settings.audio == "transcribe" else None,
        )
        rules = Rules(
            self.redactor,
            settings.model,
            settings.base_url_allowlist,
            is_loopback(settings.host),
            settings.tool_call_tags,
            usual,
            settings.execute_tools,
        )
        self.nearest = self.likeness(settings, self.log, self.models)
        caching = Caching(settings.cache, settings.cache_max_age_s, settings.semantic_cache)
        self.desk = Desk(self.exchanges, rules, caching=caching, elsewhere=self.caches.elsewhere, nearest=self.nearest)

    async def _serve(self, listening: socket.socket, node: str) -> None:
        """Answer on the socket, and begin the work that goes on beside the answers."""
        settings, opened = self.settings, self._opened
        self.reports = Reports(settings.data_dir)
        opened.callback(self.reports.close)
        tickets = Tickets(time.monotonic)
        services = Services(
            settings=settings,
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
            monotonic=time.monotonic,
            started_at=wall_clock_us(),
            trouble=self._trouble,
            ails=self._ails,
            configuration=self.configuration,
        )
        edge = Edge(
            settings.host,
            node,
            Authenticator(settings.api_key, self.redactor, tickets),
            RejectionLimiter(time.monotonic),
            self._record_refusal,
            EXCHANGES,
            settings.debug,
        )
        self._runner = web.AppRunner(
            make_app(services, self.desk, edge, self.tools), handle_signals=False, shutdown_timeout=1
        )
        opened.push_async_callback(self._runner.cleanup)
        await self._runner.setup()
        self._listener = await self._listen(listening)
        self.url = f"http://{shown(settings.host)}:{listening.getsockname()[1]}"
        self.archivist = Archivist(self.log, settings.data_dir)
        control = ControlServer(settings.data_dir, self._command)
        opened.push_async_callback(control.stop)
        await control.start()
        watch = Watch(self.exchanges.open, limits(settings), time.monotonic)
        if self.nearest is not None:
            opened.callback(asyncio.create_task(self.nearest.warm()).cancel)
        works = (watch.run(), self.models.watch(), self._move_mark(), self._end_what_comes_back(), *self._following())
        for work in works:
            opened.callback(asyncio.create_task(work).cancel)

    def _following(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """The work of virtual models: what their file says, and what their members can."""
        if self.configuration is None or self.virtual is None:
            return ()
        return self.configuration.watch(), self.virtual.ask()

    async def _listen(self, listening: socket.socket) -> asyncio.Server:
        """Take connections, of our class; the runner ends them as if it had made them."""
        manager = self._runner.server
        assert manager is not None
        loop = asyncio.get_running_loop()
        made = partial(
            self.connection,
            manager,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # None turns it off, which the annotation forgets
            keepalive_timeout=KEEPALIVE_S,
            lingering_time=LINGER_S,
            auto_decompress=False,  # no compressed body is taken, so none shall cost its decompression
        )
        return await loop.create_server(made, sock=listening, backlog=BACKLOG)

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
            await self._say(NodeStopped(node=self.log.origin[:9], reason=self._reason, open_requests=self._interrupted))
            LowWater(self.settings.data_dir).write(await self._low_water())

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

    async def _recover(self) -> None:
        """End what the incarnation before left open. Where something is, the log may be an older copy: what JetStream
        has of its past comes back first, since the end may be in it."""
        mark = LowWater(self.settings.data_dir)
        with Reader(self.settings.data_dir / FILE) as reader:
            after = mark.read()
            if after is None or after > reader.head():
                after = 0 if self.log.previous is None else _start_of(reader, self.log.previous["origin"])
            if open_streams(reader, after):
                await self.follower.compared(PAST_WITHIN_S)
            for stream in open_streams(reader, after):
                await interrupt(self.log, reader, stream, self.price, wall_clock_us())
            await end_runs(self.log, reader, after)
            await settle_groups(self.log, reader, after)
        mark.write(await self.log.head())

    async def _end_what_comes_back(self) -> None:
        """End what came back from JetStream without its end, however late it came."""
        if not await self.follower.compared(None):
            return
        with Reader(self.settings.data_dir / FILE) as reader:
            for stream in open_streams(reader, _start_of(reader, self.log.origin)):
                if reader.read_stream(stream)[-1].origin != self.log.origin:
                    await interrupt(self.log, reader, stream, self.price, wall_clock_us())

    async def _move_mark(self) -> None:
        """Keep the low-water mark near the oldest open exchange, so that a crash costs little to recover from."""
        mark = LowWater(self.settings.data_dir)
        while True:
            await asyncio.sleep(self.mark_s)
            mark.write(await self._low_water())

    async def _low_water(self) -> int:
        """A position before the first event of all that is open."""
        head = await self.log.head()
        exchanges = (running.position for running in self.exchanges.open)
        return min([head, *exchanges, *self.tools.direct.open.values(), *self.desk.groups.values()])

    async def _record_refusal(self, request: web.Request, error: GatewayError) -> None:
        """A caller who did not get in."""
        route = pattern(request)
        await self.exchanges.refuse(
            unread(caller_of(request, route), EXCHANGES[route]), outlet_for(request, None), error
        )

    async def _command(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """What tools on this machine may ask of the owner of the log."""
        match request.get("command"):
            case "rebuild":
                return await self.follower.rebuild(request.get("projection"))
            case "archive" | "drop" as command:
                return await self.archivist.asked(command, request.get("until"))
        raise ControlError("unknown command")

    def _refused(self, error: Exception) -> None:
        """The disk refused: nothing can be recorded, so nothing may be served. Stop at once."""
        logger.critical("the log can write no more: %s", error)
        self.exit_code = DISK_REFUSED
        self._ended.set()

    def _ails(self) -> list[str]:
        found = list(self.caches.ails())
        if self.nearest is not None:
            found += self.nearest.ails()
        if self.configuration is not None and (problem := self.configuration.problem) is not None:
            found.append(f"configuration: the file as it is now cannot be used, what it said before holds: {problem}")
        return found

    def _trouble(self) -> list[str]:
        return ["the log cannot be written"] if self.exit_code else []


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises `OSError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setblocking(False)
    try:
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


def shown(host: str) -> str:
    """The host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def limits(settings: Settings) -> Limits:
    """The timeouts of upstream calls."""
    return Limits(
        first_byte_s=settings.first_byte_timeout_s,
        first_byte_whole_s=settings.first_byte_timeout_s * 5,
        idle_s=settings.idle_timeout_s,
        total_s=settings.total_timeout_s,
    )


def _start_of(reader: Reader, origin: str) -> int:
    """The position before the first event of an incarnation."""
    events = reader.read_stream(f"node-{origin}")
    return events[0].position - 1 if events else 0
