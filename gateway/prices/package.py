"""The price data that comes with the `genai-prices` package, as events.

Importing that data takes a quarter of a second, so it is done only when the log does not have it yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any

from eventstore.catalogue.control import PricePublished
from eventstore.catalogue.values import Usd, dumps

if TYPE_CHECKING:
    from genai_prices import types

SOURCE = "genai-prices"
FORM = 1
"""Version of the rules' form; raised when this file says the same data in another way."""
EVENT_BYTES = 400_000
"""Rules in one event. A message of NATS holds 1 MiB at most, with the envelope."""
CLAUSES = ("equals", "starts_with", "ends_with", "contains", "regex")


def table_id() -> str:
    """Names the packaged data: its release and our form of it."""
    return f"{SOURCE}-{metadata.version(SOURCE)}-{FORM}"


def missing(providers: Iterable[str], known: Mapping[str, str]) -> list[PricePublished]:
    """The events that the log needs so that it has the packaged prices of these providers (ids of the price data).

    `known` is the table of each provider that the log has (`PriceTable.tables`). Append the events of one provider to
    `price-<provider>` in one append. Raises `LookupError` for an id that the data does not have.
    """
    wanted = sorted(provider for provider in set(providers) if known.get(provider) != table_id())
    return [event for provider in wanted for event in published(provider)]


def published(provider: str) -> list[PricePublished]:
    """All packaged prices of one provider, in as many events as their size asks for."""
    from genai_prices.data import providers  # not at the top: see above

    by_id = {listed.id: listed for listed in providers}
    if provider not in by_id:
        raise LookupError(f"the price data has no provider {provider}")
    return [
        PricePublished(provider=provider, source=SOURCE, table=table_id(), rules=rules)
        for rules in _sized(_rules(by_id[provider], by_id))
    ]


def _rules(provider: types.Provider, by_id: Mapping[str, types.Provider]) -> Iterator[dict[str, Any]]:
    """Its own models, then those of the providers whose models it also sells, at their prices."""
    for model in provider.models:
        yield _rule(model.id, model)
    for other in provider.fallback_model_providers or ():
        for model in by_id[other].models if other in by_id else ():
            yield _rule(f"{other}:{model.id}", model)


def _rule(name: str, model: types.ModelInfo) -> dict[str, Any]:
    dated = model.prices if isinstance(model.prices, list) else None
    rule: dict[str, Any] = {
        "id": name,
        "match": _match(model.match),
        "prices": [_entry(one.prices, one.constraint) for one in dated] if dated else [_entry(model.prices, None)],
    }
    if model.price_variants:
        rule["variants"] = [
            {"when": variant.when, **_entry(variant.prices, variant.constraint)} for variant in model.price_variants
        ]
    return rule


def _match(clause: Any) -> dict[str, Any]:
    for word in ("or", "and"):
        if (inner := getattr(clause, f"{word}_", None)) is not None:
            return {word: [_match(one) for one in inner]}
    word = next(word for word in CLAUSES if hasattr(clause, word))
    return {word: getattr(clause, word)}


def _entry(prices: Any, constraint: Any) -> dict[str, Any]:
    bounds = {
        name: getattr(constraint, name).isoformat()
        for name in ("start_date", "start_time", "end_time")
        if hasattr(constraint, name)
    }
    return {**bounds, "prices": {key: _price(value) for key, value in vars(prices).items() if value is not None}}


def _price(value: Any) -> Any:
    if not hasattr(value, "tiers"):
        return Usd.parse(value)
    return {
        "base": Usd.parse(value.base),
        "tiers": [{"start": tier.start, "price": Usd.parse(tier.price)} for tier in value.tiers],
    }


def _sized(rules: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    taken: list[dict[str, Any]] = []
    size = 0
    for rule in rules:
        length = len(dumps(rule)) + 1
        if taken and size + length > EVENT_BYTES:
            yield taken
            taken, size = [], 0
        taken.append(rule)
        size += length
    if taken:
        yield taken
