"""What a submission comes to, before anything is recorded or called. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from eventstore.value import value
from gateway.errors import InvalidRequest, UnsupportedParameter
from gateway.exchange.inputs import Submission
from gateway.redaction import Redactor, Scrubber
from gateway.routing.choose import Route, choose, credential
from gateway.upstreams.upstream import Call, Provider, Upstream
from gateway.wire.values import Unsupported, WireError

NOTHING = Scrubber([])
"""For a call without a credential."""


@value
class Plan:
    """Where a request goes, in which words, with which credential (which is never recorded)."""

    route: Route
    provider: Provider
    upstream: Upstream
    call: Call
    api_key: str | None
    scrubber: Scrubber


class Planner:
    """Plans by the configured `providers` (by name) and `upstreams` (by family). `listed`: provider -> models, as last
    discovered."""

    def __init__(
        self,
        providers: Mapping[str, Provider],
        upstreams: Mapping[str, Upstream],
        redactor: Redactor,
        default_provider: str | None,
        listed: Callable[[], Mapping[str, Collection[str]]],
    ) -> None:
        self._providers, self._upstreams, self._redactor = providers, upstreams, redactor
        self._default_provider, self._listed = default_provider, listed
        self._own = {name: redactor.scrubber([p.api_key]) for name, p in providers.items() if p.api_key}

    def plan(self, submission: Submission) -> Plan:
        """Raises `GatewayError`: no such model, no key, a field that the family cannot carry."""
        route = choose(submission.model, self._providers, self._default_provider, self._listed())
        provider = route.provider
        if submission.base_url is not None:
            provider = at_url(provider, submission.base_url)
        if not provider.base_url:
            raise InvalidRequest(
                f"{provider.name} has no URL: send one as base_url, or configure it.", param="base_url"
            )
        api_key = credential(provider, submission.api_key, submission.base_url)
        upstream = self._upstreams[provider.family]
        try:
            call = upstream.encode(provider, route.model, submission.body)
        except Unsupported as error:
            raise UnsupportedParameter(str(error), param=error.param) from error
        except WireError as error:
            raise InvalidRequest(str(error), param="messages") from error
        return Plan(route, provider, upstream, call, api_key, self._scrubber(route.provider, api_key))

    def _scrubber(self, provider: Provider, api_key: str | None) -> Scrubber:
        """Cuts the call's credential out of what comes back; that of our own keys is made once."""
        if not api_key:
            return NOTHING
        return self._own[provider.name] if api_key == provider.api_key else self._redactor.scrubber([api_key])


def at_url(provider: Provider, url: str) -> Provider:
    """The provider at a URL that the caller named: without our key, and its error texts are not shown."""
    return replace(provider, base_url=url.rstrip("/"), api_key=None, traits=provider.traits | {"callers_url"})
