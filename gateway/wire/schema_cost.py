"""Checking an answer against a caller's JSON Schema in bounded time: the schema is a stranger's, and the check runs
where all other requests wait for it.

Patterns are matched by RE2, in linear time; what it does not know (look-around, back-references) is refused. Every step
of the check is counted, since references that double at each level would take it for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson
import re2  # type: ignore[import-untyped]  # it ships no types
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend, validator_for
from referencing.jsonschema import EMPTY_REGISTRY

from gateway.wire.values import WireError

MOST_STEPS = 50_000
"""Of one check: about a third of a second."""
DEEPEST = 200
"""Keywords within keywords. Some libraries of the check are native: they do not outlive Python's own limit."""
LONGEST_SCHEMA = 256 * 1024
"""Bytes of JSON."""
Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError]]

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 1 << 20


def check_length(schema: Mapping[str, Any]) -> None:
    """Raises `WireError` for a schema that is too long to find out whether it is one: that takes a second for the
    longest. `RecursionError` for one that is too deep."""
    try:
        length = len(orjson.dumps(schema))
    except TypeError as error:
        raise RecursionError from error
    if length > LONGEST_SCHEMA:
        raise WireError(f"A schema must not be longer than {LONGEST_SCHEMA // 1024} KiB here.")


def check_cost(schema: Mapping[str, Any]) -> None:
    """Raises `WireError` for a schema that cannot be checked in bounded time."""
    waiting: list[Any] = [schema]
    while waiting:
        at = waiting.pop()
        if isinstance(at, dict):
            if isinstance(at.get("patternProperties"), dict):
                raise WireError("patternProperties cannot be checked here.")
            if isinstance(at.get("pattern"), str):
                _compiled(at["pattern"])
            waiting += at.values()
        elif isinstance(at, list):
            waiting += at


def checker(schema: dict[str, Any]) -> Validator:
    """A validator for one check. It fetches nothing (left alone, the library opens any URL), and raises `WireError`
    when it has taken `MOST_STEPS`, `RecursionError` where it has gone `DEEPEST` keywords deep."""
    base = validator_for(schema, default=Draft202012Validator)
    left, depth = MOST_STEPS, 0

    def counted(keyword: Keyword) -> Keyword:
        def step(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
            nonlocal left, depth
            left, depth = left - 1, depth + 1
            try:
                if left < 0:
                    raise WireError("the answer takes too long to check against the schema")
                if depth > DEEPEST:
                    raise RecursionError
                yield from keyword(validator, value, instance, schema) or ()
            finally:
                depth -= 1

        return step

    keywords: dict[str, Any] = {**base.VALIDATORS, "pattern": _pattern, "uniqueItems": _unique}
    steps = {name: counted(keyword) for name, keyword in keywords.items()}
    kind: Any = extend(base, steps)  # type: ignore[no-untyped-call]  # the stubs leave its types out
    made: Validator = kind(schema, registry=EMPTY_REGISTRY)
    return made


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(instance, str) and _compiled(pattern).search(instance) is None:
        yield ValidationError(f"it does not match {pattern!r}: {instance!r}")


def _unique(validator: Any, wanted: bool, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """The library compares each with each."""
    items = instance if wanted and isinstance(instance, list) else []
    if len({orjson.dumps(item, option=orjson.OPT_SORT_KEYS) for item in items}) < len(items):
        yield ValidationError("the items are not unique")


def _compiled(pattern: str) -> Any:
    try:
        return re2.compile(pattern, options=_OPTIONS)
    except re2.error as error:
        raise WireError(f"The pattern {pattern[:100]!r} cannot be checked here.") from error
