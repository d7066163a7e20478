"""Virtual models: names that stand for several models, and for the strategy by which one of them is chosen. Pure.

    [models.auto]                       # what a request names: "model": "auto"
    strategy = "cheapest"               # see gateway.routing.order.ORDERINGS
    members = ["openai/gpt-5.2", {model = "ollama/qwen3:4b", weight = 3}]
    retries = 1                         # as in a request, and so are
    deadline_s = 30
    max_cost_usd = 0.05

    [models.desk]
    strategy = "semantic"               # has routes instead of members: the request goes where it is like the examples
    otherwise = "openai/gpt-5.2"        # and here, where it is like none
    [[models.desk.routes]]
    model = "ollama/qwen3-coder"
    examples = ["Why does this function not compile?", "Write a unit test for it."]
    threshold = 0.3                     # how like it must be, from 0 to 1

A file of TOML (https://toml.io/en/v1.0.0), read anew when it changes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import field
from decimal import Decimal
from typing import Any

from eventstore.catalogue.values import Usd
from eventstore.value import value
from gateway.exchange.policy import MOST_FALLBACKS, MOST_RETRIES

MOST_MODELS = 1000
MOST_MEMBERS = MOST_FALLBACKS + 1
MOST_WEIGHT = 1_000_000
LONGEST_DEADLINE_S = 86_400
MOST_COST_USD = 1_000_000
MOST_EXAMPLES = 100
LONGEST_EXAMPLE = 4000
THRESHOLD = 0.25
"""How like its examples a request must be, where the route does not say; nothing in common is 0, the same words 1."""
BY_EXAMPLES = "semantic"
"""The strategy whose members are given as routes with examples."""
MODEL_KEYS = frozenset({"strategy", "members", "routes", "otherwise", "retries", "deadline_s", "max_cost_usd"})
ROUTE_KEYS = frozenset({"model", "examples", "threshold"})
MEMBER_KEYS = frozenset({"model", "weight", "up_to"})


class BadConfiguration(Exception):
    """The file says something that cannot be used; the message says where, and what would do."""


@value
class Member:
    """A model that a virtual one can stand for, as `provider/model`. `weight`: its share beside the others'; `up_to`:
    the complexity that it is good for, None for any; `threshold`: how like its examples a request must be, None where
    it has none."""

    model: str
    weight: float = 1.0
    up_to: float | None = None
    threshold: float | None = None


@value
class Virtual:
    """A name that stands for `members`. `retries` (None: the server's) and `deadline_s` are what a request may say
    itself; `most_cost` is the most that one request may cost. `examples`: requests for a member, by its model."""

    name: str
    strategy: str
    members: tuple[Member, ...]
    retries: int | None = None
    deadline_s: float | None = None
    most_cost: Usd | None = None
    examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def parse(raw: bytes, strategies: Collection[str]) -> dict[str, Virtual]:
    """The virtual models of a file, by name, each with one of these strategies. Raises `BadConfiguration`."""
    try:
        document = tomllib.loads(raw.decode())
    except (ValueError, RecursionError) as error:  # tomllib raises more than its own for numbers and for nesting
        raise BadConfiguration(f"it is no TOML: {error}") from error
    _known_keys(document, frozenset({"models"}), "the file")
    models = document.get("models", {})
    if not isinstance(models, dict) or len(models) > MOST_MODELS:
        raise BadConfiguration(f"[models.NAME] must be at most {MOST_MODELS} tables")
    return {name: _virtual(name, table, strategies) for name, table in models.items()}


def _virtual(name: str, table: Any, strategies: Collection[str]) -> Virtual:
    where = f"models.{name}"
    if not name or not name.isprintable() or len(name) > 200:
        raise BadConfiguration(f"{where[:200]!r} is no name for a model")
    if not isinstance(table, dict):
        raise BadConfiguration(f"{where} must be a table")
    _known_keys(table, MODEL_KEYS, where)
    strategy = table.get("strategy", "fallback")
    if not isinstance(strategy, str) or strategy not in strategies:
        raise BadConfiguration(f"{where}.strategy must be one of {', '.join(sorted(strategies))}")
    retries, deadline_s = table.get("retries"), _number(table, "deadline_s", where, LONGEST_DEADLINE_S)
    if retries is not None and (type(retries) is not int or not 0 <= retries <= MOST_RETRIES):
        raise BadConfiguration(f"{where}.retries must be a whole number from 0 to {MOST_RETRIES}")
    cost = _number(table, "max_cost_usd", where, MOST_COST_USD)
    most_cost = None if cost is None else Usd.parse(Decimal(str(cost)))
    members, examples = _led_to(table, strategy, where)
    if len({member.model for member in members}) < len(members):
        raise BadConfiguration(f"{where} names a model twice")
    return Virtual(name, strategy, members, retries, deadline_s, most_cost, examples)


def _led_to(
    table: Mapping[str, Any], strategy: str, where: str
) -> tuple[tuple[Member, ...], Mapping[str, tuple[str, ...]]]:
    """The members, and the examples of each that has any."""
    foreign = {"members"} if strategy == BY_EXAMPLES else {"routes", "otherwise"}
    if given := sorted(foreign & table.keys()):
        raise BadConfiguration(f"{where}.{given[0]} does not go with the strategy {strategy}")
    if strategy != BY_EXAMPLES:
        return _members(table, where), {}
    routes = [_route(each, f"{where}.routes[{n}]") for n, each in enumerate(_listed(table, "routes", where))]
    members = [member for member, _ in routes]
    if "otherwise" in table:
        members.append(Member(_model(table, "otherwise", where)))
    if len(members) > MOST_MEMBERS:
        raise BadConfiguration(f"{where} has more than {MOST_MEMBERS} models, with otherwise")
    return tuple(members), {member.model: examples for member, examples in routes}


def _members(table: Mapping[str, Any], where: str) -> tuple[Member, ...]:
    return tuple(_member(each, f"{where}.members[{n}]") for n, each in enumerate(_listed(table, "members", where)))


def _listed(table: Mapping[str, Any], key: str, where: str) -> list[Any]:
    given = table.get(key)
    if not isinstance(given, list) or not 1 <= len(given) <= MOST_MEMBERS:
        raise BadConfiguration(f"{where}.{key} must be a list of 1 to {MOST_MEMBERS} models")
    return given


def _route(given: Any, where: str) -> tuple[Member, tuple[str, ...]]:
    if not isinstance(given, dict):
        raise BadConfiguration(f"{where} must be a table")
    _known_keys(given, ROUTE_KEYS, where)
    examples = given.get("examples")
    if not isinstance(examples, list) or not 1 <= len(examples) <= MOST_EXAMPLES:
        raise BadConfiguration(f"{where}.examples must be a list of 1 to {MOST_EXAMPLES} texts")
    if not all(isinstance(each, str) and each.strip() and len(each) <= LONGEST_EXAMPLE for each in examples):
        raise BadConfiguration(f"{where}.examples must be texts of 1 to {LONGEST_EXAMPLE} characters")
    threshold = _number(given, "threshold", where, 1)
    return Member(_model(given, "model", where), threshold=THRESHOLD if threshold is None else threshold), tuple(
        examples
    )


def _model(table: Mapping[str, Any], key: str, where: str) -> str:
    model = table.get(key)
    if not isinstance(model, str) or not all(model.partition("/")):
        raise BadConfiguration(f"{where}.{key} must be provider/model")
    return model


def _member(given: Any, where: str) -> Member:
    table = {"model": given} if isinstance(given, str) else given
    if not isinstance(table, dict):
        raise BadConfiguration(f'{where} must be "provider/model", or {{model = "provider/model", weight = 1}}')
    _known_keys(table, MEMBER_KEYS, where)
    weight = _number(table, "weight", where, MOST_WEIGHT)
    return Member(_model(table, "model", where), 1.0 if weight is None else weight, _number(table, "up_to", where, 1))


def _number(table: Mapping[str, Any], key: str, where: str, most: float) -> float | None:
    given = table.get(key)
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 < given <= most:
        raise BadConfiguration(f"{where}.{key} must be a number over 0, at most {most}")
    return float(given)


def _known_keys(table: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """Raises `BadConfiguration`: a word that is misspelt must not be silently without effect."""
    for key in table:
        if key not in known:
            raise BadConfiguration(f"{where} has {key[:80]!r}; known are {', '.join(sorted(known))}")
