"""Which provider and model a name means. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import field
from typing import Any

from eventstore.value import value
from gateway.errors import InvalidRequest, NotFound, Unauthorized
from gateway.upstreams.upstream import Provider

LIST_HINT = "GET /v1/models lists what there is"


@value
class Route:
    """Where a request goes. `reason` is `named`, `default_provider`, `listed` or `virtual`; `inputs` is what it was
    made from."""

    provider: Provider
    model: str
    reason: str
    inputs: dict[str, Any] = field(default_factory=dict)


def choose(
    name: str,
    providers: Mapping[str, Provider],
    default_provider: str | None,
    listed: Mapping[str, Collection[str]],
) -> Route:
    """The route of a model name: `provider/model`, split at its first slash; a bare name goes to the default provider,
    or to the one provider that lists it (`listed`: provider -> model ids, as last discovered). Never guessed.

    Raises `InvalidRequest` for an empty name, `NotFound` (`model_not_found`) for what nobody has.
    """
    if not name:
        raise InvalidRequest(
            f"The request names no model, and the server has no default model. {LIST_HINT}.", param="model"
        )
    provider, slash, model = name.partition("/")
    if slash and provider in providers:
        if not model:
            raise _not_found(f"{name!r} names a provider and no model")
        return Route(providers[provider], model, "named")
    if not slash and default_provider is not None and default_provider in providers:
        return Route(providers[default_provider], name, "default_provider", {"default_provider": default_provider})
    having = sorted(p for p, models in listed.items() if name in models and p in providers)
    if len(having) == 1:
        return Route(providers[having[0]], name, "listed", {"listed": having})
    if having:
        raise _not_found(f"{name!r} is a model of {', '.join(having)}; put one of them before it, with a slash")
    if slash:
        raise _not_found(f"there is no provider {provider!r}; there are {', '.join(sorted(providers))}")
    raise _not_found(f"no provider lists {name!r}; write it as provider/model")


def unlisted(
    name: str,
    providers: Mapping[str, Provider],
    default_provider: str | None,
    listed: Mapping[str, Collection[str]],
) -> bool:
    """Whether whose a name is hangs on what providers list, and none is known to list it: then it is time to ask."""
    provider, slash, _ = name.partition("/")
    if not name or (provider if slash else default_provider) in providers:
        return False
    return not any(name in models for models in listed.values())


def credential(provider: Provider, callers: str | None, callers_url: str | None) -> str | None:
    """The key for the call: the caller's own if it gave one, else ours, which never goes to a URL that a caller named.

    Raises `Unauthorized` where the provider needs one and there is none.
    """
    if callers is not None:
        return callers
    if callers_url is not None:
        return None
    if provider.needs_key and not provider.api_key:
        raise Unauthorized(
            f"There is no API key for {provider.name}. Set {provider.api_key_env} where the server runs, "
            "or send one as api_key in the request.",
            param="api_key",
        )
    return provider.api_key


def _not_found(what: str) -> NotFound:
    return NotFound(f"Model not found: {what}. {LIST_HINT}.", param="model", code="model_not_found")
