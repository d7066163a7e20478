"""Providers that are configured while the server runs: the last `provider_configured` of each name, in the log.

A key is given by the name of its variable, and only by one that the operator lends (`--provider-keys NAME@host`): it is
sent to the host that stands beside it and to no other. A URL without a key must be one that a request may name.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import MutableMapping
from urllib.parse import urlsplit

from eventstore.catalogue.control import ProviderConfigured, ProviderRemoved
from eventstore.envelope import ANY_VERSION, StreamWrite
from eventstore.log import Log
from gateway.auth import is_loopback
from gateway.config import Settings
from gateway.errors import Conflict, Forbidden, GatewayError, InvalidRequest
from gateway.routing.callers_url import check_base_url, check_url
from gateway.standing import PROVIDERS
from gateway.upstreams.registry import REMOTE_FAMILIES, at_home, configured
from gateway.upstreams.upstream import Provider

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)

logger = logging.getLogger(__name__)


class ProviderSettings:
    """Changes `offered`, the one map of providers by name that everybody reads. What stood in it at the start is what a
    name falls back to where its own configuration cannot be kept."""

    def __init__(self, log: Log, offered: MutableMapping[str, Provider], settings: Settings) -> None:
        self._log, self._offered, self._settings = log, offered, settings
        self._at_start = dict(offered)
        self._turn = asyncio.Lock()

    async def restore(self, sealed: int) -> None:
        """Configure what the log says. What lies up to `sealed`, in an archive that may be dropped, is said again. What
        the settings no longer allow is left out, with a warning."""
        for name, (position, configured_so) in (await self._latest()).items():
            try:
                self._offered[name] = self._provider(configured_so)
            except GatewayError as error:
                logger.warning("the provider %s is not as it was configured: %s", name, error.message)
                continue
            if position <= sealed:
                await self._record(configured_so)

    async def repeats(self, sealed: int) -> bool:
        """Whether `restore` says something again."""
        latest = (await self._latest()).values()
        return any(position <= sealed and self._is_allowed(configured_so) for position, configured_so in latest)

    async def put(self, asked: ProviderConfigured) -> Provider:
        """Configure one, for now and for later starts. Raises `InvalidRequest`, `Forbidden`, `Conflict`."""
        async with self._turn:
            made = self._provider(asked)
            await self._record(asked, admit=True)
            self._offered[asked.provider] = made
            return made

    async def remove(self, name: str, key: str) -> None:
        """Back to what the server came with, which of a new name is nothing. Raises `Conflict` where it is so already.
        Requests under way go on."""
        async with self._turn:
            if not self.at_run_time(name):
                raise Conflict(f"{name} is as the server's settings say: they alone can change that.")
            await self._record(ProviderRemoved(provider=name, key=key), admit=True)
            if name in self._at_start:
                self._offered[name] = self._at_start[name]
            else:
                del self._offered[name]

    def at_run_time(self, name: str) -> bool:
        """Whether it was configured here, and not by the environment."""
        return self._offered.get(name) != self._at_start.get(name)

    def family_of(self, name: str) -> str | None:
        """That of a provider which the server came with; None for a name that is free."""
        known = self._at_start.get(name)
        return None if known is None else known.family

    async def _latest(self) -> dict[str, tuple[int, ProviderConfigured]]:
        """By name, how each is configured, and the position where the log says so."""
        return PROVIDERS.latest(await self._log.read_stream(PROVIDERS.stream))

    async def _record(self, event: ProviderConfigured | ProviderRemoved, admit: bool = False) -> None:
        await self._log.append(StreamWrite(PROVIDERS.stream, ANY_VERSION, (event.new(),)), admit=admit)

    def _is_allowed(self, asked: ProviderConfigured) -> bool:
        try:
            self._provider(asked)
        except GatewayError:
            return False
        return True

    def _provider(self, asked: ProviderConfigured) -> Provider:
        if not _NAME.fullmatch(asked.provider):
            raise InvalidRequest("A provider's name is made of a-z, 0-9, - and _, at most 64.", param="name")
        known = self._at_start.get(asked.provider)
        if known is not None and (known.family not in REMOTE_FAMILIES or known.family != asked.family):
            raise Conflict(f"{asked.provider} is a provider of the family {known.family}, and stays one.")
        if asked.family not in REMOTE_FAMILIES:
            raise InvalidRequest(f"family must be one of {', '.join(sorted(REMOTE_FAMILIES))}.", param="family")
        return configured(known, asked, self._key(asked, known))

    def _key(self, asked: ProviderConfigured, known: Provider | None) -> str | None:
        """The lent key; None where none is asked for."""
        settings = self._settings
        if asked.api_key_env is None:
            if known is None or not at_home(known, asked.base_url):
                check_base_url(asked.base_url, settings.base_url_allowlist, is_loopback(settings.host))
            return None
        check_url(asked.base_url)
        lent = settings.provider_keys.get(asked.api_key_env)
        parts = urlsplit(asked.base_url)
        if lent is None or lent.host not in (parts.hostname, parts.netloc.lower()):
            raise Forbidden(
                f"{asked.api_key_env[:80]} is not lent to this host: the operator names both "
                "(ABSTRACTCORE_PROVIDER_KEYS=NAME@host).",
                param="api_key_env",
                code="key_not_lent",
            )
        return lent.value
