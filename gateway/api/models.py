"""GET /v1/models, GET /v1/models/{id}: what can be asked for, in OpenAI's shape (https://platform.openai.com/docs/api-reference/models)."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gateway.api.answers import json_response, services
from gateway.discovery import Listing
from gateway.errors import InvalidRequest, NotFound, Unavailable
from gateway.routing.virtual import Virtual
from gateway.services import Services
from gateway.upstreams.upstream import ModelInfo
from gateway.wire.messages import models as anthropic

TYPES = ("text-generation", "text-embedding", "text-reranking")
OWNER = "abstractcore"
"""Whose the virtual models are."""


async def list_models(request: web.Request) -> web.Response:
    """The virtual models, and every provider's as `provider/model`; `?provider=` and `?type=` choose among the latter.
    The further key `providers` says what each provider had to say, failing ones included. A client that sends
    `anthropic-version` gets Anthropic's keys of models and pages too, and its `type`."""
    wanted = _wanted_type(request)
    listings = await services(request).discovery.listings(_wanted_providers(request))
    data = virtual_objects(services(request)) if wanted is None and "provider" not in request.query else []
    data += [
        model_object(listing, model)
        for listing in listings
        for model in listing.models
        if wanted is None or model.type == wanted
    ]
    shown = {"object": "list", "data": data, "providers": [status_object(each) for each in listings]}
    return json_response(anthropic.page(shown) if anthropic.ASKED_BY in request.headers else shown)


async def one_model(request: web.Request) -> web.Response:
    """One model. A bare name means the default provider's, or that of the one provider that lists it."""
    shown = await named(services(request), request.match_info["id"])
    return json_response(anthropic.model(shown) if anthropic.ASKED_BY in request.headers else shown)


async def named(given: Services, name: str) -> dict[str, Any]:
    """The model of a name, in OpenAI's shape. Raises `NotFound`, `Unavailable`."""
    if given.configuration is not None and name in given.configuration.models:
        return virtual_object(given.configuration.models[name])
    provider, slash, model = name.partition("/")
    if slash and provider in given.providers:
        (listing,) = await given.discovery.listings([provider])
        return _found(listing, model, name)
    listings = await given.discovery.listings([given.settings.provider] if given.settings.provider else None)
    having = [each for each in listings if any(listed.id == name for listed in each.models)]
    if len(having) != 1:
        raise _not_found(name)
    return _found(having[0], name, name)


def model_object(listing: Listing, model: ModelInfo) -> dict[str, Any]:
    """OpenAI's model object, with what else is known. `created` is 0 where the provider does not say."""
    shown: dict[str, Any] = {
        "id": f"{listing.provider.name}/{model.id}",
        "object": "model",
        "created": model.created or 0,
        "owned_by": model.owned_by or listing.provider.name,
    }
    if model.type:
        shown["type"] = model.type
    if model.context_length:
        shown["context_length"] = model.context_length
    if model.capabilities:
        shown["capabilities"] = list(model.capabilities)
    return shown


def virtual_object(virtual: Virtual) -> dict[str, Any]:
    """The same of a virtual model, with what it stands for."""
    members = [member.model for member in virtual.members]
    return {
        "id": virtual.name,
        "object": "model",
        "created": 0,
        "owned_by": OWNER,
        "strategy": virtual.strategy,
        "members": members,
    }


def virtual_objects(given: Services) -> list[dict[str, Any]]:
    """The virtual models."""
    return [] if given.configuration is None else [virtual_object(each) for each in given.configuration.models.values()]


def status_object(listing: Listing) -> dict[str, Any]:
    """How one provider is: `available`, `unavailable` or `not_configured`, and why."""
    shown: dict[str, Any] = {
        "name": listing.provider.name,
        "type": "llm",
        "model_count": len(listing.models),
        "status": listing.status,
    }
    return shown if listing.reason is None else {**shown, "reason": listing.reason}


def _wanted_type(request: web.Request) -> str | None:
    wanted = request.query.get("type")
    if wanted is not None and wanted not in TYPES:
        raise InvalidRequest(f"type must be {' or '.join(TYPES)}.", param="type")
    return wanted


def _wanted_providers(request: web.Request) -> list[str] | None:
    name = request.query.get("provider")
    if name is None:
        return None
    known = services(request).providers
    if name not in known:
        raise NotFound(
            f"There is no provider {name[:80]!r}; there are {', '.join(sorted(known))}.",
            param="provider",
            code="provider_not_found",
        )
    return [name]


def _found(listing: Listing, model: str, asked: str) -> dict[str, Any]:
    for each in listing.models:
        if each.id == model:
            return model_object(listing, each)
    if listing.status == "unavailable":
        raise Unavailable(
            f"{listing.provider.name} cannot say now whether it has this model: {listing.reason}.",
            headers={"Retry-After": "5"},
        )
    raise _not_found(asked)


def _not_found(name: str) -> NotFound:
    return NotFound(
        f"Model not found: {name[:200]!r}. GET /v1/models lists what there is.", param="model", code="model_not_found"
    )
