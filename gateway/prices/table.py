"""The prices in force, read from the log: which rule prices a model, and what is booked for a generation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import lru_cache

from eventstore.catalogue.control import PricePublished
from eventstore.catalogue.values import Usage, Usd
from gateway.prices.cost import Rule, cost
from gateway.prices.rules import NO_CONTEXT, ModelPrices

LOCAL = "local"
PROVIDER_REPORTED = "provider_reported"
REMEMBERED_MODELS = 4096
MOST_REPORTED = 10_000
"""USD for one generation. A provider that reports more is not believed: reports add up in 64 bits."""
COMPACT_DATE = re.compile(r"(-)(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


@dataclass(frozen=True, slots=True)
class Booked:
    """What goes into the event: the amount, None where no price is known, and the name of what it was computed by."""

    cost: Usd | None
    rule: str | None


LOCAL_FREE = Booked(Usd(0), LOCAL)
UNPRICED = Booked(None, None)


class PriceTable:
    """The newest published prices of each provider."""

    def __init__(self, models: Mapping[str, list[ModelPrices]], tables: Mapping[str, str]) -> None:
        self._models = models
        self.tables = tables
        """Provider's price id -> id of its table, as `package.missing` wants to know it."""
        self._find = lru_cache(REMEMBERED_MODELS)(self._search)

    @classmethod
    def from_events(cls, events: Iterable[PricePublished]) -> PriceTable:
        """From each `price-<provider>` stream in order; of each provider the last table counts, in all its parts."""
        models: dict[str, list[ModelPrices]] = {}
        tables: dict[str, str] = {}
        for event in events:
            if tables.get(event.provider) != event.table:
                tables[event.provider], models[event.provider] = event.table, []
            models[event.provider] += [
                ModelPrices(rule, f"{event.provider}/{rule['id']}@{event.table}") for rule in event.rules
            ]
        return cls(models, tables)

    def rule_for(self, provider: str, model: str, at: int, context: Mapping[str, str] = NO_CONTEXT) -> Rule | None:
        """The prices of a model in force `at` (microseconds since 1970 UTC), None where they are not known.

        `context` is what the provider's prices may hang on: `{"service_tier": "flex"}`.
        """
        found = self._find(provider, model)
        return None if found is None else found.at(at, context)

    def book(
        self,
        usage: Usage,
        *,
        prices: str | None,
        model: str,
        at: int,
        local: bool = False,
        reported: str | None = None,
        context: Mapping[str, str] = NO_CONTEXT,
    ) -> Booked:
        """What one generation is booked at. `prices` is the provider's id in the table, None where it has none.

        An amount that the provider itself `reported` (a decimal number of dollars, sane ones only) beats the table.
        """
        if local:
            return LOCAL_FREE
        amount = None if reported is None else _reported(reported)
        if amount is not None:
            return Booked(amount, PROVIDER_REPORTED)
        rule = None if prices is None else self.rule_for(prices, model, at, context)
        if rule is None:
            return UNPRICED
        return Booked(cost(usage, rule), rule.tier(usage.input_tokens).name)

    def _search(self, provider: str, model: str) -> ModelPrices | None:
        name = model.lower()
        models = self._models.get(provider, ())
        found = next((prices for prices in models if prices.matches(name)), None)
        if found is None and (dashed := _dashed(name)) != name:
            found = next((prices for prices in models if prices.matches(dashed)), None)
        return found


def _dashed(name: str) -> str:
    """`gpt-5.2-20251211` as `gpt-5.2-2025-12-11`: some call models so that price lists write with dashes."""
    return COMPACT_DATE.sub(_dash, name)


def _dash(found: re.Match[str]) -> str:
    year, month, day = (int(found[group]) for group in (2, 3, 4))
    try:
        return f"{found[1]}{date(year, month, day).isoformat()}"
    except ValueError:
        return found[0]


def _reported(text: str) -> Usd | None:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        return None
    return Usd.parse(amount) if amount.is_finite() and 0 <= amount <= MOST_REPORTED else None
