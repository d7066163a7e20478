"""What a request allows to be done about attempts that fail. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eventstore.value import value
from gateway.errors import InvalidRequest

MOST_RETRIES = 10
MOST_FALLBACKS = 10


@value
class Policy:
    """What a request allows: so many `retries` of each model, the models to fall back on (`provider/model`), in order,
    and the seconds in which all of it must be over."""

    retries: int = 0
    fallback: tuple[str, ...] = ()
    deadline_s: float | None = None


def policy_of(body: Mapping[str, Any], usual: Policy) -> Policy | None:
    """The policy of a request: its fields `retries`, `fallback` and `deadline_s`, else the server's. None where nothing
    is to be done. Raises `InvalidRequest`."""
    retries, fallback, deadline_s = body.get("retries"), body.get("fallback"), body.get("deadline_s")
    if retries is None and fallback is None and deadline_s is None:
        return usual if usual.retries or usual.fallback or usual.deadline_s else None
    return Policy(
        usual.retries if retries is None else _retries(retries),
        usual.fallback if fallback is None else _fallback(fallback),
        usual.deadline_s if deadline_s is None else _deadline_s(deadline_s),
    )


def _retries(given: Any) -> int:
    if type(given) is not int or not 0 <= given <= MOST_RETRIES:
        raise InvalidRequest(f"'retries' must be a whole number from 0 to {MOST_RETRIES}.", param="retries")
    return given


def _fallback(given: Any) -> tuple[str, ...]:
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or len(names) > MOST_FALLBACKS or not all(isinstance(n, str) and n for n in names):
        raise InvalidRequest(f"'fallback' must be at most {MOST_FALLBACKS} names of models.", param="fallback")
    return tuple(names)


def _deadline_s(given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 < given <= 86_400:
        raise InvalidRequest("'deadline_s' must be a number of seconds over 0.", param="deadline_s")
    return float(given)
