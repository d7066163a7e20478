"""The opinions on one attempt: how its start and its end are recorded, what it used and cost. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

from eventstore.catalogue.generation import GenerationCompleted, GenerationFailed, GenerationStarted, UsageSource
from eventstore.catalogue.values import Usage, Usd
from eventstore.value import value
from gateway.exchange.estimate import estimate, prompt_bytes
from gateway.exchange.inputs import Broken, Failure, HedgeWon, RoundBegun, Seen, Submitted, Unfit
from gateway.exchange.state import Exchange
from gateway.prices.table import LOCAL
from gateway.upstreams.upstream import Call

Price = Callable[[str, str, Usage, str | None, str | None, int], tuple[Usd | None, str | None]]
"""(provider, model, usage, cost that the provider reported, service tier that it named, time in microseconds) ->
(cost, price rule), None for both where no price is known."""


@value
class Views:
    """What decisions may look at besides the exchange itself. `now_us`: microseconds since 1970 UTC."""

    price: Price
    now_us: int


NO_FRAMES = (0, sha256().hexdigest())
"""How a run of which no frame was written is bound."""
UNKEPT = "not retained"
"""Stands for an error's message where content is not retained: it can quote the request. Its kind and code are kept."""


def generation_started(
    happened: Submitted | Unfit | Broken | HedgeWon | RoundBegun,
    request_id: str,
    provider: str,
    model: str,
    attempt: int,
    held: str | None = None,
) -> GenerationStarted:
    """A call is about to be made."""
    return GenerationStarted(
        request_id=request_id,
        attempt=attempt,
        provider=provider,
        model=model,
        decoder=happened.decoder,
        streamed=happened.call.streamed,
        url=happened.url,
        call_digest=happened.call_digest,
        call_length=len(happened.call.body),
        prompt_length=prompt_length(happened.call),
        held=held,
    )


def prompt_length(call: Call) -> int | None:
    """What its length is for estimates; None where that is its length."""
    length = prompt_bytes(call.body)
    return None if length == len(call.body) else length


def generation_completed(seen: Seen, exchange: Exchange, views: Views) -> GenerationCompleted:
    """The attempt under way gave a whole answer."""
    return GenerationCompleted(
        **identity_of(exchange),
        **_account(seen, exchange, views),
        attempt=exchange.attempt,
        finish_reason=seen.finish_reason or "stop",
        duration_ms=seen.duration_ms,
        ttft_ms=seen.ttft_ms,
        choices=seen.choices if exchange.retained else None,
        provider_model=seen.provider_model,
        provider_request_id=seen.provider_request_id,
    )


def generation_failed(failure: Failure, seen: Seen, exchange: Exchange, views: Views) -> GenerationFailed:
    """The attempt under way gave none."""
    return GenerationFailed(
        **identity_of(exchange),
        **_account(seen, exchange, views),
        attempt=exchange.attempt,
        kind=failure.kind,
        message=failure.message if exchange.retained else UNKEPT,
        fault_domain=failure.fault_domain,
        began=seen.began,
        status=failure.status,
        code=failure.code,
        param=failure.param,
        retry_after_s=failure.retry_after_s,
        headers=failure.headers,
        duration_ms=seen.duration_ms,
        choices=seen.choices if exchange.retained and seen.began else None,
    )


def identity_of(exchange: Exchange) -> dict[str, Any]:
    """The request, and where its attempt under way goes."""
    return {"request_id": exchange.request_id, "provider": exchange.provider, "model": exchange.model}


def _account(seen: Seen, exchange: Exchange, views: Views) -> dict[str, Any]:
    """Usage and cost of an attempt. What the provider did not say is estimated if content came, else nothing; of what
    is no chat the price is then not known. Nor is what a host takes that the caller named, unless it is a kind that
    takes nothing. The frames are those that the log has: what is not retained has none."""
    usage, source = _usage(seen, exchange)
    cost: Usd | None = Usd(0) if exchange.chat or not seen.began else None
    rule: str | None = None
    if source != "none":
        provider, model = exchange.provider or "", exchange.model or ""
        cost, rule = views.price(provider, model, usage, seen.cost_reported, seen.service_tier, views.now_us)
        if exchange.callers_url and rule != LOCAL:
            cost, rule = None, None
    frames, digest = (seen.frames, seen.frames_digest) if exchange.retained else NO_FRAMES
    return {
        "tokens_input": usage.input_tokens,
        "tokens_input_cached": usage.cache_read_tokens,
        "tokens_output": usage.output_tokens,
        "usage": usage.compact(),
        "usage_source": source,
        "usage_raw": seen.usage_raw,
        "cost_usd": cost,
        "price_rule": rule,
        "frames": frames,
        "frames_digest": digest,
    }


def used(seen: Seen, exchange: Exchange) -> Usage:
    """What an attempt is accounted with."""
    return _usage(seen, exchange)[0]


def estimated(seen: Seen, exchange: Exchange) -> Usage | None:
    """The same where its provider did not say; None where it did, or nothing can be guessed."""
    usage, source = _usage(seen, exchange)
    return usage if source == "estimated" else None


def _usage(seen: Seen, exchange: Exchange) -> tuple[Usage, UsageSource]:
    if seen.usage is not None and not seen.usage_estimated:
        return seen.usage, "provider"
    if not exchange.chat:
        return Usage(), "none"
    if seen.usage is not None or seen.began or seen.finish_reason:
        guess = estimate(exchange.prompt_length, seen.text_length)
        return _filled(seen.usage, guess) if seen.usage else guess, "estimated"
    return Usage(), "none"


def _filled(said: Usage, guess: Usage) -> Usage:
    """A preliminary count: that of the prompt stands, that of the answer may lag behind its text."""
    return replace(
        said,
        input_tokens=said.input_tokens or guess.input_tokens,
        output_tokens=max(said.output_tokens, guess.output_tokens),
    )
