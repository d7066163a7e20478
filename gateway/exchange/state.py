"""What is known of an exchange: a fold of its events, the same live, at recovery and in replay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from eventstore.catalogue.event import Event
from eventstore.catalogue.generation import (
    FallbackSelected,
    GenerationCompleted,
    GenerationFailed,
    GenerationStarted,
    HedgeStarted,
)
from eventstore.catalogue.request import TERMINAL, RequestReceived, RouteSelected
from eventstore.catalogue.values import Usd
from eventstore.value import value
from gateway.wire.dialects import NO_CHAT

Phase = Literal["new", "received", "routed", "generating", "settled", "ended"]


@value
class Exchange:
    """`version` is the stream's; `cost` sums the attempts, None as soon as one has no price. `prompt_length` is the
    length in bytes of the call under way, its files counted for what they are to a model, for estimates; `chat` is
    False where tokens cannot be guessed from lengths. `callers_url`: the call went where its caller said. `attempt` is
    the number of the attempt under way, `attempts` how many there were; `hedge` is the call beside it, while that is
    open."""

    request_id: str
    version: int = 0
    phase: Phase = "new"
    attempt: int = 0
    provider: str | None = None
    model: str | None = None
    retained: bool = True
    prompt_length: int = 0
    cost: Usd | None = Usd(0)  # an immutable number
    callers_url: bool = False
    chat: bool = True
    attempts: int = 0
    hedge: HedgeStarted | None = None


def evolve(exchange: Exchange, event: Event) -> Exchange:
    """The exchange after one more of its events."""
    return fold(exchange, (event,))


def fold(exchange: Exchange, events: Iterable[Event]) -> Exchange:
    """The exchange after these events, in their order."""
    x = exchange
    version, phase, attempt, provider, model, cost = x.version, x.phase, x.attempt, x.provider, x.model, x.cost
    retained, prompt_length, callers_url, chat = x.retained, x.prompt_length, x.callers_url, x.chat
    attempts, hedge = x.attempts, x.hedge
    for event in events:
        version += 1
        if isinstance(event, RequestReceived):
            phase, retained = "received", event.retention != "none"
            chat = event.wire not in NO_CHAT
        elif isinstance(event, RouteSelected):
            phase, provider, model = "routed", event.provider, event.model
            callers_url = bool(event.inputs.get("callers_url"))
        elif isinstance(event, FallbackSelected):
            callers_url = bool(event.callers_url)
        elif isinstance(event, GenerationStarted):
            phase, provider, model, attempt = "generating", event.provider, event.model, event.attempt
            prompt_length = event.call_length if event.prompt_length is None else event.prompt_length
            attempts = attempt
            if hedge is not None:  # which won
                callers_url, hedge = bool(hedge.callers_url), None
        elif isinstance(event, HedgeStarted):
            attempts, hedge = event.attempt, event
        elif isinstance(event, (GenerationCompleted, GenerationFailed)):
            cost = total(cost, event.cost_usd)
            if event.attempt == attempt:
                phase = "settled"
            else:
                hedge = None
        elif event.type in TERMINAL:
            phase = "ended"
    return Exchange(
        x.request_id, version, phase, attempt, provider, model, retained, prompt_length, cost, callers_url, chat,
        attempts, hedge,
    )  # fmt: skip


def total(cost: Usd | None, more: Usd | None) -> Usd | None:
    """Both together; unknown as soon as one is."""
    return None if cost is None or more is None else Usd(cost + more)
