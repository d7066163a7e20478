"""What a request allows to be done about attempts that fail. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from eventstore.value import value
from gateway.errors import InvalidRequest

MOST_RETRIES = 10
MOST_FALLBACKS = 10
LATEST_HEDGE_MS = 600_000
CONTINUATIONS = ("error", "resume")


@value
class Hedge:
    """A second call, to `model`, where the first has brought nothing after so many milliseconds."""

    after_ms: int
    model: str


@value
class Policy:
    """What a request allows: so many `retries` of each model, the models to fall back on (`provider/model`), in order,
    and the seconds in which all of it must be over. `continuation`: what becomes of an answer that breaks off after its
    client saw some of it: `error`, or `resume`, where another attempt goes on with it. `hedge`: a call beside one that
    is slow."""

    retries: int = 0
    fallback: tuple[str, ...] = ()
    deadline_s: float | None = None
    continuation: str = "error"
    hedge: Hedge | None = None


def policy_of(body: Mapping[str, Any], usual: Policy) -> Policy | None:
    """The policy of a request: its fields of these names, else the server's. None where nothing is to be done. Raises
    `InvalidRequest`."""
    if _FIELDS.keys().isdisjoint(body):
        return None if usual == _IDLE else usual
    given = {name: read(value) for name, read in _FIELDS.items() if (value := body.get(name)) is not None}
    return replace(usual, **given) if given or usual != _IDLE else None


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


def _continuation(given: Any) -> str:
    if not isinstance(given, str) or given not in CONTINUATIONS:
        raise InvalidRequest("'continuation' must be 'error' or 'resume'.", param="continuation")
    return str(given)


def _hedge(given: Any) -> Hedge:
    if isinstance(given, dict) and given.keys() == {"after_ms", "model"}:
        after_ms, model = given["after_ms"], given["model"]
        if type(after_ms) is int and 0 <= after_ms <= LATEST_HEDGE_MS and isinstance(model, str) and model:
            return Hedge(after_ms, model)
    raise InvalidRequest(
        f'\'hedge\' must be {{"after_ms": milliseconds up to {LATEST_HEDGE_MS}, "model": the name of a model}}.',
        param="hedge",
    )


_IDLE = Policy()
_FIELDS: Mapping[str, Callable[[Any], Any]] = {
    "retries": _retries,
    "fallback": _fallback,
    "deadline_s": _deadline_s,
    "continuation": _continuation,
    "hedge": _hedge,
}
