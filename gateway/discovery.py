"""Which models the providers offer now: all asked at once, with short patience, and remembered for a while."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from gateway.redaction import Redactor
from gateway.upstreams.upstream import ModelInfo, Provider, Upstream, UpstreamFailure

PATIENCE_S = 2.0
FRESH_S = 60.0
FAILED_S = 5.0

Status = Literal["available", "unavailable", "not_configured"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Listing:
    """What one provider said. `reason` says in words why it is not `available`; `at` is when, in monotonic seconds."""

    provider: Provider
    status: Status
    models: tuple[ModelInfo, ...] = ()
    reason: str | None = None
    at: float = 0.0


class Discovery:
    """Asks providers for their models. A good answer is fresh for 60 s, and served once more while a newer one is
    fetched; a failure is believed for 5 s. However many ask at a time, a provider is asked once."""

    def __init__(
        self,
        providers: Mapping[str, Provider],
        upstreams: Mapping[str, Upstream],
        redactor: Redactor,
        monotonic: Callable[[], float],
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._providers, self._upstreams = providers, upstreams
        self._redactor, self._monotonic, self._patience_s = redactor, monotonic, patience_s
        self._known: dict[str, Listing] = {}
        self._listed: dict[str, frozenset[str]] = {}
        self._infos: dict[str, dict[str, ModelInfo]] = {}
        self._asking: dict[str, asyncio.Task[Listing]] = {}

    async def listings(self, names: Iterable[str] | None = None) -> list[Listing]:
        """What these providers (all, by default) offer, in the order of the registry. Never raises for a provider."""
        wanted = self._providers if names is None else [name for name in self._providers if name in set(names)]
        return list(await asyncio.gather(*(self._listing(self._providers[name]) for name in wanted)))

    def listed(self) -> Mapping[str, frozenset[str]]:
        """The models' ids that each provider last listed, without asking. One that cannot say now has what it said."""
        return self._listed

    def capabilities(self, provider: str, model: str) -> tuple[str, ...]:
        """What a provider last said that its model can, without asking; nothing where it says nothing of that."""
        info = self.info(provider, model)
        return () if info is None else info.capabilities

    def info(self, provider: str, model: str) -> ModelInfo | None:
        """What a provider last said of a model, without asking; None where it says nothing."""
        return self._infos.get(provider, {}).get(model)

    def forget(self, name: str) -> None:
        """What is known of this provider is out of date: it was configured anew."""
        self._known.pop(name, None)
        self._listed.pop(name, None)
        self._infos.pop(name, None)
        self._asking.pop(name, None)

    async def close(self) -> None:
        """Ends questions that are still open."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _listing(self, provider: Provider) -> Listing:
        known = self._known.get(provider.name)
        if known is not None:
            if self._monotonic() - known.at < (FAILED_S if known.status == "unavailable" else FRESH_S):
                return known
            if known.status == "available":
                self._ask(provider)
                return known
        return await asyncio.shield(self._ask(provider))  # one who leaves must not end it for the others

    def _ask(self, provider: Provider) -> asyncio.Task[Listing]:
        task = self._asking.get(provider.name)
        if task is None:
            task = self._asking[provider.name] = asyncio.create_task(self._fetch(provider))
            task.add_done_callback(lambda ended: self._asked(provider.name, ended))
        return task

    def _asked(self, name: str, ended: asyncio.Task[Listing]) -> None:
        if self._asking.get(name) is ended:
            del self._asking[name]

    async def _fetch(self, provider: Provider) -> Listing:
        listing = await self.ask(provider, provider.api_key, self._patience_s)
        if self._providers.get(provider.name) != provider:
            return listing  # configured anew meanwhile
        self._known[provider.name] = listing
        if listing.status == "available":
            self._infos[provider.name] = {model.id: model for model in listing.models}
            self._listed[provider.name] = frozenset(self._infos[provider.name])
        return listing

    async def ask(self, provider: Provider, api_key: str | None, patience_s: float) -> Listing:
        """What a provider says now to this key. Not remembered; never raises for a provider."""
        if unconfigured := _unconfigured(provider, api_key, self._monotonic()):
            return unconfigured
        try:
            async with asyncio.timeout(patience_s):
                models = await self._upstreams[provider.family].models(provider, api_key)
            return Listing(provider, "available", tuple(models), None, self._monotonic())
        except TimeoutError:
            reason = f"the provider did not answer in {patience_s:g} s"
        except UpstreamFailure as failure:
            reason = self._redactor.text(failure.message)
        except Exception as error:  # one provider's odd answer must not hide the others' models
            logger.warning("listing the models of %s: %r", provider.name, error, exc_info=error)
            reason = "the provider's list of models could not be understood"
        if provider.probed:
            reason += f" (looked for at {provider.base_url}, its usual place)"
        return Listing(provider, "unavailable", (), reason, self._monotonic())


def _unconfigured(provider: Provider, api_key: str | None, now: float) -> Listing | None:
    if provider.needs_key and not api_key:
        return Listing(provider, "not_configured", (), f"{provider.api_key_env} is not set", now)
    if not provider.base_url:
        return Listing(provider, "not_configured", (), f"no URL is set for {provider.name}", now)
    return None
