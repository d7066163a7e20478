"""What is known of an exchange: a fold of its events, the same live, at recovery and in replay."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from eventstore.catalogue.event import Event
from eventstore.catalogue.generation import GenerationCompleted, GenerationFailed, GenerationStarted
from eventstore.catalogue.request import TERMINAL, RequestReceived, RouteSelected
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
    version = exchange.version + 1
    if isinstance(event, RequestReceived):
        return replace(
            exchange,
            version=version,
            phase="received",
            retained=event.retention != "none",
            prompt_length=event.body_length,
        )
    if isinstance(event, RouteSelected):
        return replace(exchange, version=version, phase="routed", provider=event.provider, model=event.model)
    if isinstance(event, GenerationStarted):
        return replace(
            exchange,
            version=version,
            phase="generating",
            attempt=event.attempt,
            provider=event.provider,
            model=event.model,
        )
    if isinstance(event, (GenerationCompleted, GenerationFailed)):
        cost = None if exchange.cost is None or event.cost_usd is None else Usd(exchange.cost + event.cost_usd)
        return replace(exchange, version=version, phase="settled", cost=cost)
    if event.type in TERMINAL:
        return replace(exchange, version=version, phase="ended")
    return replace(exchange, version=version)


def fold(exchange: Exchange, events: Iterable[Event]) -> Exchange:
    """`evolve` over all of them."""
    for event in events:
        exchange = evolve(exchange, event)
    return exchange
