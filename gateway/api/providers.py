"""The providers: what there is, how each one is, trying one out, and configuring one while the server runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from aiohttp import web
from pydantic import ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from eventstore.catalogue.control import ProviderConfigured
from eventstore.catalogue.values import milliseconds
from gateway.api.answers import json_response, page, services
from gateway.api.exchange import DESK
from gateway.api.models import model_object, status_object
from gateway.auth import is_loopback
from gateway.discovery import Listing
from gateway.edge import KEY_ID
from gateway.errors import InvalidRequest, NotFound, Unauthorized
from gateway.exchange.plan import at_url
from gateway.json_guard import read_json
from gateway.routing.callers_url import check_base_url
from gateway.routing.choose import credential
from gateway.services import Services
from gateway.upstreams.registry import REMOTE_FAMILIES, at_home
from gateway.upstreams.upstream import Provider
from gateway.wire.openai_chat_request import Credential, Text, validate

TEST_S = 10.0
"""How long a provider under test may take."""
SMALL = 64 * 1024
MODELS_SHOWN = 100


@with_config(ConfigDict(extra="forbid", strict=True))
class ProviderTest(TypedDict, total=False):
    """What to try: a provider, as it is, or with a key and a URL of the caller's."""

    name: Annotated[Text, Field(min_length=1), "required"]
    api_key: Credential | None
    base_url: str | None


@with_config(ConfigDict(extra="forbid", strict=True))
class ProviderChange(TypedDict, total=False):
    """How a provider shall be configured. `api_key_env` names the variable of a key that the operator lends."""

    family: str
    base_url: Annotated[Text, Field(min_length=1)]
    api_key_env: Annotated[str, Field(max_length=200)] | None


_TEST: TypeAdapter[ProviderTest] = TypeAdapter(ProviderTest)
_CHANGE: TypeAdapter[ProviderChange] = TypeAdapter(ProviderChange)


async def list_providers(request: web.Request) -> web.Response:
    """`{"providers": [{"name", "type", "model_count", "status", "reason"?}]}`."""
    listings = await services(request).discovery.listings()
    return json_response({"providers": [status_object(listing) for listing in listings]})


async def list_all(request: web.Request) -> web.Response:
    """GET /v1/providers: every provider, where it is, and how it is."""
    asked, given = page(request), services(request)
    listings = await given.discovery.listings()
    shown = asked.cut([provider_object(given, listing) for listing in listings])
    return json_response(shown | {"position": await given.log.head()})


async def status(request: web.Request) -> web.Response:
    """One provider: where it is, how it is, and how long ago it was asked"""
    given = services(request)
    return json_response(provider_object(given, await _listing(request)))


async def models(request: web.Request) -> web.Response:
    """GET /v1/providers/{name}/models: its models, in OpenAI's shape, and how it is"""
    listing = await _listing(request)
    data = [model_object(listing, model) for model in listing.models]
    return json_response({"object": "list", "data": data, "provider": status_object(listing)})


async def test(request: web.Request) -> web.Response:
    """POST /v1/providers/test: ask a provider for its models, with a key and a URL of the caller's where it sends them.

    They obey the rules of a request's `api_key` and `base_url` (the provider's own URL is always good), and are not
    kept. The answer is 200 whatever came of it, and says what did."""
    given, (body, _) = services(request), await read_json(request, SMALL)
    validate(_TEST, body, "name")
    provider, base_url = _known(given, body["name"]), body.get("base_url")
    if base_url is not None and at_home(provider, base_url):
        base_url = None
    if base_url is not None:
        check_base_url(base_url, given.settings.base_url_allowlist, is_loopback(given.settings.host))
        if provider.family not in REMOTE_FAMILIES:
            raise InvalidRequest(f"{provider.name} is not asked at a URL.", param="base_url")
        provider = replace(at_url(provider, base_url), needs_key=False)
    began = given.monotonic()
    listing = await _tried(given, provider, body.get("api_key") or None, base_url)
    took = milliseconds(given.monotonic() - began)
    shown = {"success": listing.status == "available", **status_object(listing), "latency_ms": took}
    return json_response({**shown, "models": [model.id for model in listing.models[:MODELS_SHOWN]]})


async def configure(request: web.Request) -> web.Response:
    """PUT /v1/providers/{name}: configure a provider for now and for later starts, a key by its variable's name"""
    given, (body, _) = services(request), await read_json(request, SMALL)
    name = request.match_info["name"]
    if "api_key" in body:
        raise InvalidRequest(
            "Keys are not taken here: 'api_key_env' names the variable of one that the operator lends.", param="api_key"
        )
    validate(_CHANGE, body, "base_url")
    family = body.get("family") or given.provider_settings.family_of(name) or "openai_compatible"
    asked = ProviderConfigured(
        provider=name,
        family=family,
        base_url=body["base_url"],
        key=request[KEY_ID],
        api_key_env=body.get("api_key_env"),
    )
    before = given.providers.get(name)
    await given.provider_settings.put(asked)
    await _moved(request, name, before)
    [listing] = await given.discovery.listings([name])
    return json_response(provider_object(given, listing))


async def remove(request: web.Request) -> web.Response:
    """DELETE /v1/providers/{name}: what was configured of it while the server ran holds no longer"""
    given, provider = services(request), _known(services(request), request.match_info["name"])
    await given.provider_settings.remove(provider.name, request[KEY_ID])
    await _moved(request, provider.name, provider)
    return json_response({"name": provider.name, "removed": True, "offered": provider.name in given.providers})


async def _moved(request: web.Request, name: str, before: Provider | None) -> None:
    """What was known of a provider is out of date; how its calls ended too, where it is another one now."""
    given, circuits = services(request), request.app[DESK].exchanges.circuits
    given.discovery.forget(name)
    if circuits is not None and given.providers.get(name) != before:
        await circuits.forget(name, given.steady_us())


def provider_object(given: Services, listing: Listing) -> dict[str, Any]:
    """A provider, its place and its state. Of its key only the variable's name, and whether there is one."""
    provider = listing.provider
    return {
        **status_object(listing),
        "family": provider.family,
        "base_url": given.redactor.url(provider.base_url),
        "local": provider.local,
        "api_key_env": provider.api_key_env,
        "has_key": provider.api_key is not None,
        "configured_by": "request" if given.provider_settings.at_run_time(provider.name) else "environment",
        "checked_seconds_ago": round(max(given.monotonic() - listing.at, 0.0), 3),
    }


async def _tried(given: Services, provider: Provider, callers: str | None, base_url: str | None) -> Listing:
    try:
        api_key = credential(provider, callers, base_url)
    except Unauthorized as error:
        return Listing(provider, "not_configured", (), error.message, given.monotonic())
    return await given.discovery.ask(provider, api_key, TEST_S)


async def _listing(request: web.Request) -> Listing:
    given = services(request)
    provider = _known(given, request.match_info["name"])
    [listing] = await given.discovery.listings([provider.name])
    return listing


def _known(given: Services, name: str) -> Provider:
    provider = given.providers.get(name)
    if provider is None:
        raise NotFound(
            f"There is no provider {name[:80]!r}; there are {', '.join(sorted(given.providers))}.",
            param="provider",
            code="provider_not_found",
        )
    return provider
