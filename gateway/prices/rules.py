"""The rules of a `price_published` event, and how they are read. Pure.

A rule is the price list of one model, in the words of the genai-prices data (https://github.com/pydantic/genai-prices):

    {"id": "gpt-5", "match": {"or": [{"equals": "gpt-5"}, {"starts_with": "gpt-5-chat"}]},
     "prices": [{"prices": {"input_mtok": 1.25, "output_mtok": {"base": 10, "tiers": [{"start": 9000, "price": 15}]}}},
                {"start_date": "2026-10-12", "prices": {…}}],
     "variants": [{"when": {"service_tier": "flex"}, "prices": {"input_mtok": 0.625}}]}

`_mtok` is USD per million tokens, `_kcount` per thousand. A match is one of `equals`, `starts_with`, `ends_with`,
`contains`, `regex`, or `or`/`and` of more, on the model's name in lower case. Of `prices` the last one in force
counts, else the first; `variants` override it key by key for requests whose context they name, the first in force
first. In force is what has begun (`start_date`, UTC), what is in its daily hours (`start_time`, `end_time`), and what
is not bound in time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from typing import Any

from eventstore.catalogue.values import Usd
from gateway.prices.cost import Prices, Rule, Tier

Matcher = Callable[[str], bool]
InForce = Callable[[int], bool]
NO_CONTEXT: Mapping[str, str] = {}
DAY_US = 86_400_000_000

KINDS: tuple[tuple[str, str, str | None], ...] = (
    ("input", "input_mtok", None),
    ("cache_read", "cache_read_mtok", "input"),
    ("cache_write", "cache_write_mtok", "input"),
    ("cache_write_5m", "cache_write_5m_mtok", "cache_write"),
    ("cache_write_1h", "cache_write_1h_mtok", "cache_write"),
    ("input_audio", "input_audio_mtok", "input"),
    ("output", "output_mtok", None),
    ("reasoning", "output_reasoning_mtok", "output"),
    ("output_audio", "output_audio_mtok", "output"),
    ("web_search", "web_searches_kcount", None),
    ("request", "requests_kcount", None),
)
"""(kind, key of its price, the kind whose price it has when it has none of its own), parents first."""
MEASURED = frozenset({"input_mtok", "output_mtok", "requests_kcount"})
"""A price list without any of these is by units that no chat usage reports (hours, pixels): its price is not known."""


@dataclass(frozen=True, slots=True)
class Terms:
    """A list of prices, as the event has them, and when it is in force; `when` is the context that a variant needs."""

    prices: Mapping[str, Any]
    in_force: InForce | None
    when: Mapping[str, str] = field(default_factory=dict)


class ModelPrices:
    """One rule, ready to be asked. `name` is what is booked, before any variant or tier."""

    def __init__(self, rule: Mapping[str, Any], name: str) -> None:
        self.name = name
        self.matches = matcher(rule["match"])
        self._terms = [_terms(entry) for entry in rule["prices"]]
        self._variants = [_terms(entry) for entry in rule.get("variants", ())]
        self._resolved: dict[tuple[int, ...], Rule | None] = {}

    def at(self, at: int, context: Mapping[str, str] = NO_CONTEXT) -> Rule | None:
        """The prices in force `at` (microseconds since 1970 UTC), None where nothing that chat reports has a price."""
        chosen = (self._standard(at), *(self._overrides(at, context) if context and self._variants else ()))
        if chosen not in self._resolved:
            self._resolved[chosen] = self._resolve(chosen)
        return self._resolved[chosen]

    def _standard(self, at: int) -> int:
        for index in range(len(self._terms) - 1, 0, -1):
            in_force = self._terms[index].in_force
            if in_force is None or in_force(at):
                return index
        return 0

    def _overrides(self, at: int, context: Mapping[str, str]) -> list[int]:
        return [
            index
            for index, terms in enumerate(self._variants)
            if (terms.in_force is None or terms.in_force(at))
            and all(context.get(key) == value for key, value in terms.when.items())
        ]

    def _resolve(self, chosen: tuple[int, ...]) -> Rule | None:
        variants = [self._variants[index] for index in chosen[1:]]
        prices: dict[str, Any] = {}
        for terms in variants:
            prices = {**terms.prices, **prices}
        prices = {**self._terms[chosen[0]].prices, **prices}
        if not MEASURED & prices.keys():
            return None
        words = sorted({f"{key}={value}" for terms in variants for key, value in terms.when.items()})
        return Rule(_tiers(prices, " ".join([self.name, *words])))


def matcher(clause: Mapping[str, Any]) -> Matcher:
    """The test that a clause says, for names in lower case. Raises `ValueError` for a clause with another word."""
    ((word, value),) = clause.items()
    if word in {"or", "and"}:
        return _combined(any if word == "or" else all, [matcher(inner) for inner in value])
    if word == "regex":
        return _regex(value)
    wanted = value.lower()
    if word == "equals":
        return lambda name: name == wanted
    if word == "starts_with":
        return lambda name: name.startswith(wanted)
    if word == "ends_with":
        return lambda name: name.endswith(wanted)
    if word == "contains":
        return lambda name: wanted in name
    raise ValueError(f"a price rule cannot match by {word}")


def _combined(how: Callable[[Any], bool], matchers: Sequence[Matcher]) -> Matcher:
    return lambda name: how(test(name) for test in matchers)


def _regex(pattern: str) -> Matcher:
    search = re.compile(pattern).search
    return lambda name: search(name) is not None


def _terms(entry: Mapping[str, Any]) -> Terms:
    return Terms(entry["prices"], _in_force(entry), entry.get("when", {}))


def _in_force(entry: Mapping[str, Any]) -> InForce | None:
    if "start_date" in entry:
        begins = datetime.combine(date.fromisoformat(entry["start_date"]), time(), UTC)
        start_us = int(begins.timestamp()) * 1_000_000
        return lambda at: at >= start_us
    if "start_time" in entry:
        start, end = _of_day(entry["start_time"]), _of_day(entry["end_time"])
        if end < start:  # past midnight
            return lambda at: not end <= at % DAY_US < start
        return lambda at: start <= at % DAY_US < end
    return None


def _of_day(text: str) -> int:
    """Microseconds since midnight UTC; a time without a zone is UTC."""
    value = time.fromisoformat(text)
    moment = datetime.combine(date(2000, 1, 1), value, value.tzinfo or UTC).astimezone(UTC)
    return ((moment.hour * 60 + moment.minute) * 60 + moment.second) * 1_000_000 + moment.microsecond


def _tiers(prices: Mapping[str, Any], name: str) -> tuple[Tier, ...]:
    starts = {-1}
    for _, key, _ in KINDS:
        value = prices.get(key)
        if isinstance(value, Mapping):
            starts.update(tier["start"] for tier in value["tiers"])
    return tuple(
        Tier(start, _prices_above(prices, start), name if start < 0 else f"{name} context>{start}")
        for start in sorted(starts, reverse=True)
    )


def _prices_above(prices: Mapping[str, Any], start: int) -> Prices:
    """The prices of a request whose prompt is just longer than `start` tokens."""
    amounts: dict[str, int] = {}
    for kind, key, parent in KINDS:
        value = prices.get(key)
        if value is not None:
            amounts[kind] = _amount(value, start)
        elif parent is not None:
            amounts[kind] = amounts[parent]
        else:
            amounts[kind] = 0
    del amounts["cache_write"]
    return Prices(**amounts)


def _amount(value: Any, start: int) -> int:
    if isinstance(value, Mapping):
        reached = [tier["price"] for tier in value["tiers"] if tier["start"] <= start]
        value = reached[-1] if reached else value["base"]
    return value if isinstance(value, Usd) else Usd.parse(value)
