"""What is known of an exchange: a fold of its events, the same live, at recovery and in replay."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from eventstore.catalogue.event import Event
from eventstore.catalogue.request import TERMINAL
from eventstore.catalogue.values import Usd

Phase = Literal["new", "received", "routed", "generating", "settled", "ended"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """`version` is the stream's; `cost` sums the attempts, None as soon as one has no price. `prompt_length` is the
    body's length in bytes, for estimates."""

    request_id: str
    version: int = 0
    phase: Phase = "new"
    attempt: int = 0
    provider: str | None = None
    model: str | None = None
    retained: bool = True
    prompt_length: int = 0
    cost: Usd | None = Usd(0)  # noqa: RUF009  # an immutable number


def evolve(exchange: Exchange, event: Event) -> Exchange:
    """The exchange after one more of its events."""
    step = _STEPS.get(event.type)
    changed = step(exchange, event) if step else {}
    if event.type in TERMINAL:
        changed["phase"] = "ended"
    return replace(exchange, version=exchange.version + 1, **changed)


def _received(exchange: Exchange, event: Any) -> dict[str, Any]:
    return {"phase": "received", "retained": event.retention != "none", "prompt_length": event.body_length}


def _routed(exchange: Exchange, event: Any) -> dict[str, Any]:
    return {"phase": "routed", "provider": event.provider, "model": event.model}


def _generating(exchange: Exchange, event: Any) -> dict[str, Any]:
    return {"phase": "generating", "attempt": event.attempt, "provider": event.provider, "model": event.model}


def _settled(exchange: Exchange, event: Any) -> dict[str, Any]:
    if exchange.cost is None or event.cost_usd is None:
        return {"phase": "settled", "cost": None}
    return {"phase": "settled", "cost": Usd(exchange.cost + event.cost_usd)}


_STEPS: dict[str, Callable[[Exchange, Any], dict[str, Any]]] = {
    "request_received": _received,
    "route_selected": _routed,
    "generation_started": _generating,
    "generation_completed": _settled,
    "generation_failed": _settled,
}


def fold(exchange: Exchange, events: Iterable[Event]) -> Exchange:
    """`evolve` over all of them."""
    for event in events:
        exchange = evolve(exchange, event)
    return exchange
