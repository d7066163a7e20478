"""The opinions on a call that is made beside a slow one: what is recorded of it. Pure."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

from eventstore.catalogue.event import Event
from eventstore.catalogue.generation import GenerationFailed, HedgeStarted
from gateway.exchange.decide_attempt import Views, generation_failed, generation_started, prompt_length
from gateway.exchange.estimate import estimate
from gateway.exchange.inputs import Failure, HedgeBegun, HedgeLost, HedgeWon, Seen
from gateway.exchange.state import Exchange

HEDGE_LOST = Failure("hedge_lost", "the other call was first", "gateway")
"""Why a call came to nothing that raced another."""
UNHEARD = Seen(0, sha256().hexdigest(), began=False, text_length=0, duration_ms=0.0)
"""An attempt of which nothing came."""


def hedge_begun(happened: HedgeBegun, exchange: Exchange) -> HedgeStarted:
    """It is about to be made."""
    return HedgeStarted(
        request_id=exchange.request_id,
        attempt=exchange.attempts + 1,
        provider=happened.route.provider.name,
        model=happened.route.model,
        after_ms=happened.after_ms,
        url=happened.url,
        call_digest=happened.call_digest,
        call_length=len(happened.call.body),
        prompt_length=prompt_length(happened.call),
        inputs={"now_us": happened.now_us},
        callers_url=happened.callers_url or None,
        ignored=list(happened.call.ignored) or None,
    )


def hedge_lost(happened: HedgeLost, exchange: Exchange, views: Views) -> GenerationFailed:
    """The end of the call beside the attempt, of which nothing was used."""
    hedge = exchange.hedge
    assert hedge is not None
    beside = replace(
        exchange,
        attempt=hedge.attempt,
        provider=hedge.provider,
        model=hedge.model,
        callers_url=bool(hedge.callers_url),
    )
    seen = replace(UNHEARD, duration_ms=happened.duration_ms)
    return generation_failed(happened.failure, _unused(seen, exchange) if happened.used else seen, beside, views)


def hedge_won(happened: HedgeWon, exchange: Exchange, views: Views) -> list[Event]:
    """The end of the attempt that it raced, and its own start as a generation."""
    hedge, seen = exchange.hedge, happened.seen
    assert hedge is not None
    if happened.failure.kind == HEDGE_LOST.kind:
        seen = _unused(seen, exchange)
    return [
        generation_failed(happened.failure, seen, exchange, views),
        generation_started(happened, exchange.request_id, hedge.provider, hedge.model, hedge.attempt, happened.held),
    ]


def _unused(seen: Seen, exchange: Exchange) -> Seen:
    """What is counted of a call that was ended because another was first: its prompt, which the provider had."""
    return replace(seen, usage=estimate(exchange.prompt_length, 0), usage_estimated=True)
