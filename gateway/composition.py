"""What the server is composed of, as its settings want it: each function makes one part, from parts that it is given.

The order, and who is given what, is told in `gateway.server`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from gateway.auth import Authenticator, RejectionLimiter, is_loopback
from gateway.config import Settings
from gateway.edge import Edge, Record
from gateway.exchange.claims import Caching
from gateway.exchange.policy import Policy
from gateway.exchange.running import Limits
from gateway.exchange.submit import Rules
from gateway.media.extract import Extractor
from gateway.media.fetch import Fetcher
from gateway.media.local import LocalFiles
from gateway.media.prepare import Media
from gateway.redaction import Redactor
from gateway.tickets import Tickets
from gateway.upstreams.anthropic import Anthropic
from gateway.upstreams.backends import Backends, load_backends
from gateway.upstreams.demo import Demo
from gateway.upstreams.http import HttpClient
from gateway.upstreams.local.family import EMBEDDING, MLX, TRANSFORMERS, LocalModels
from gateway.upstreams.local.host import Host
from gateway.upstreams.natives import NATIVES
from gateway.upstreams.ollama import Ollama
from gateway.upstreams.openai_compatible import OpenAICompatible
from gateway.upstreams.registry import providers
from gateway.upstreams.upstream import Provider, Speech, Upstream
from gateway.wire.dialect import Dialect
from gateway.wire.dialects import models_of_endpoints

Capabilities = Callable[[str, str], Collection[str]]
"""(provider, model) -> what is known that the model can."""


def recorded_settings(settings: Settings, redactor: Redactor) -> dict[str, Any]:
    """The settings without secrets, those in URLs too (that of a NATS server can hold its token)."""
    return {name: redactor.url(v) if isinstance(v, str) else v for name, v in settings.redacted().items()}


def backends_and_providers(settings: Settings, port: int) -> tuple[Sequence[Backends], dict[str, Provider]]:
    """The backends that packages bring, and all providers, by their names. `port` is the one that we listen on."""
    offered = providers(settings, port)
    backends = load_backends(settings.backends, offered)
    return backends, offered | {backend.provider.name: backend.provider for backend in backends}


def upstreams(settings: Settings, http: HttpClient, models: Host, backends: Sequence[Backends]) -> dict[str, Upstream]:
    """Every family of providers, by its name."""
    root, embedding = settings.models_root, EMBEDDING[settings.embedding_backend]
    families: tuple[Upstream, ...] = (
        OpenAICompatible(http),
        Anthropic(http),
        Ollama(http),
        LocalModels("huggingface", TRANSFORMERS, models, root, embedding),
        LocalModels("mlx", MLX, models, root),
        Demo(),
        *backends,
    )
    return {family.family: family for family in families}


def natives(backends: Sequence[Backends]) -> dict[tuple[str, str], Speech]:
    """(family, protocol) -> what speaks it there without translation."""
    return {**NATIVES, **{key: speech for each in backends for key, speech in each.speeches().items()}}


def policy(settings: Settings) -> Policy:
    """What happens after a failure, where a request does not say."""
    return Policy(settings.retries, settings.fallback, continuation=settings.continuation)


def rules(settings: Settings, redactor: Redactor) -> Rules:
    """What a submission hangs on."""
    return Rules(
        redactor,
        settings.model,
        settings.base_url_allowlist,
        is_loopback(settings.host),
        settings.tool_call_tags,
        policy(settings),
        settings.execute_tools,
        models_of_endpoints(settings.endpoint_models or ""),
    )


def media(settings: Settings, fetcher: Fetcher, capabilities: Capabilities) -> Media:
    """What makes files ready for providers."""
    return Media(fetcher, LocalFiles(settings.files_root), Extractor(), capabilities, settings.audio != "refuse")


def caching(settings: Settings) -> Caching:
    """Which answers may be given to others, and for how long."""
    return Caching(settings.cache, settings.cache_max_age_s, settings.semantic_cache)


def limits(settings: Settings) -> Limits:
    """The timeouts of upstream calls."""
    return Limits(
        first_byte_s=settings.first_byte_timeout_s,
        first_byte_whole_s=settings.first_byte_timeout_s * 5,
        idle_s=settings.idle_timeout_s,
        total_s=settings.total_timeout_s,
    )


def edge(
    settings: Settings,
    node: str,
    redactor: Redactor,
    tickets: Tickets,
    dialects: tuple[Mapping[str, Dialect], Mapping[str, Dialect]],
    record: Record,
) -> Edge:
    """Who gets in, and what becomes of those who do not. `node`: what our own upstream calls carry;
    `dialects`: the `exchanges` and the `protocols` of `Edge`."""
    keys = Authenticator(settings.api_key, redactor, tickets)
    return Edge(settings.host, node, keys, RejectionLimiter(time.monotonic), record, *dialects, settings.debug)
