"""The opinions: what is recorded when something happens to an exchange. Pure; one small function for each input.

`decide(input, exchange, views) -> events`. Views are plain values and pure functions over them. What is recorded of one
attempt is made in `decide_attempt`, and of a call beside a slow one in `decide_hedge`.
"""

from __future__ import annotations

from typing import Any

from eventstore.catalogue.event import Event
from eventstore.catalogue.generation import (
    FallbackSelected,
    RetryAttempted,
    RetryExhausted,
    ValidationFailed,
)
from eventstore.catalogue.request import (
    RequestCancelled,
    RequestCompleted,
    RequestFailed,
    RequestInterrupted,
    RequestReceived,
    RequestRejected,
    RouteSelected,
)
from eventstore.catalogue.tool import ToolCalled
from gateway.exchange.decide_attempt import (
    UNKEPT,
    generation_completed,
    generation_failed,
    generation_started,
    identity_of,
)
from gateway.exchange.decide_attempt import Price as Price  # what whoever decides must bring
from gateway.exchange.decide_attempt import Views as Views
from gateway.exchange.decide_hedge import hedge_begun, hedge_lost, hedge_won
from gateway.exchange.inputs import (
    Answered,
    Broken,
    Failed,
    Failure,
    HedgeBegun,
    HedgeLost,
    HedgeWon,
    Input,
    Interrupted,
    Left,
    Refused,
    RoundBegun,
    RoundEnded,
    Seen,
    Submission,
    Submitted,
    ToolTold,
    Unfit,
)
from gateway.exchange.state import Exchange, fold, total
from gateway.wire.held import HELD
from gateway.wire.structure import MOST_ATTEMPTS


class Ended(Exception):
    """Something happened to an exchange that already had its terminal event; nothing may follow it."""


def decide(happened: Input, exchange: Exchange, views: Views) -> list[Event]:
    """The events that record what happened. Raises `Ended` where the exchange is over."""
    if exchange.phase == "ended":
        raise Ended(exchange.request_id)
    if isinstance(happened, Submitted):
        return _submitted(happened)
    if isinstance(happened, Answered):
        return _answered(happened, exchange, views)
    if isinstance(happened, Unfit):
        return _unfit(happened, exchange, views)
    if isinstance(happened, Broken):
        return _broken(happened, exchange, views)
    if isinstance(happened, Failed):
        return _failed(happened, exchange, views)
    if isinstance(happened, HedgeBegun):
        return [*happened.files, hedge_begun(happened, exchange)]
    if isinstance(happened, HedgeLost):
        return [hedge_lost(happened, exchange, views)]
    if isinstance(happened, HedgeWon):
        return hedge_won(happened, exchange, views)
    if isinstance(happened, RoundEnded):
        completed = generation_completed(happened.seen, exchange, views)
        return [completed, *_tools(happened.seen, exchange, identity_of(exchange)), *happened.tools]
    if isinstance(happened, ToolTold):
        return [happened.event]
    if isinstance(happened, RoundBegun):
        return [generation_started(happened, **identity_of(exchange), attempt=exchange.attempts + 1)]
    if isinstance(happened, Left):
        return _left(happened, exchange, views)
    if isinstance(happened, Interrupted):
        return _interrupted(happened, exchange, views)
    return _refused(happened)


def _submitted(happened: Submitted) -> list[Event]:
    submission, route, call = happened.submission, happened.route, happened.call
    request_id = submission.request_id
    return [
        received(submission),
        *submission.files,
        RouteSelected(
            request_id=request_id,
            provider=route.provider.name,
            model=route.model,
            family=route.provider.family,
            reason=route.reason,
            inputs={"now_us": happened.now_us, **route.inputs, **_named_by_caller(submission)},
            ignored=list(call.ignored) or None,
        ),
        generation_started(happened, request_id, route.provider.name, route.model, 1, happened.held),
    ]


def _named_by_caller(submission: Submission) -> dict[str, bool]:
    return {"callers_url": True} if submission.base_url is not None else {}


def received(submission: Submission) -> RequestReceived:
    """The first event of every request that could be read."""
    return RequestReceived(
        request_id=submission.request_id,
        endpoint=submission.endpoint,
        wire=submission.wire,
        renderer=submission.renderer,
        stream_answer=submission.streamed,
        include_usage=submission.include_usage or None,
        options=submission.options if submission.retained else None,
        model=submission.model,
        subject=submission.subject,
        key=submission.key,
        session_id=submission.session_id,
        parent=submission.parent,
        tags=submission.tags,
        retention=None if submission.retained else "none",
        client=submission.client,
        headers=submission.headers,
        body_length=submission.body_length,
        body_digest=submission.body_digest,
        body=submission.recorded if submission.retained else None,
    )


def _refused(happened: Refused) -> list[Event]:
    submission, error = happened.submission, happened.error
    rejected = RequestRejected(
        request_id=submission.request_id,
        endpoint=submission.endpoint,
        wire=submission.wire,
        renderer=submission.renderer,
        stream_answer=submission.streamed,
        key=submission.key,
        model=submission.model or None,
        status=error.status,
        error=happened.error_value if submission.retained else unkept(happened.error_value),
        fault_domain=error.fault_domain,
        inputs={"now_us": happened.now_us},
        payload_digest=happened.payload_digest,
        retention=None if submission.retained else "none",
    )
    return [rejected] if submission.recorded is None else [received(submission), *submission.files, rejected]


def _answered(happened: Answered, exchange: Exchange, views: Views) -> list[Event]:
    seen = happened.seen
    identity = identity_of(exchange)
    completed = generation_completed(seen, exchange, views)
    events: list[Event] = [completed, *_tools(seen, exchange, identity)]
    events.append(
        RequestCompleted(
            **identity,
            status=200,
            attempts=exchange.attempts,
            duration_ms=happened.duration_ms,
            overhead_ms=happened.overhead_ms,
            payload_digest=happened.payload.digest,
            payload_length=happened.payload.length,
            cost_usd=total(exchange.cost, completed.cost_usd),
            ttft_ms=seen.ttft_ms,
        )
    )
    return events


def _unfit(happened: Unfit, exchange: Exchange, views: Views) -> list[Event]:
    identity, attempt = identity_of(exchange), exchange.attempts
    return [
        generation_completed(happened.seen, exchange, views),
        ValidationFailed(**identity, attempt=exchange.attempt, problem=happened.problem if exchange.retained else None),
        RetryAttempted(
            **identity,
            attempt=attempt + 1,
            reason="validation_failed",
            inputs={"now_us": happened.now_us, "most": MOST_ATTEMPTS},
        ),
        generation_started(happened, **identity, attempt=attempt + 1, held=HELD),
    ]


def _broken(happened: Broken, exchange: Exchange, views: Views) -> list[Event]:
    attempt, call = exchange.attempts + 1, happened.call
    identity: dict[str, Any] = {
        "request_id": exchange.request_id,
        "provider": happened.route.provider.name,
        "model": happened.route.model,
        "attempt": attempt,
    }
    decided: dict[str, Any] = {**identity, "reason": happened.reason, "inputs": happened.inputs}
    if happened.continued:
        decided |= {"continued": True, "frame": happened.seen.frames}
    following: Event = RetryAttempted(**decided, delay_s=happened.delay_s)
    if happened.fallen:
        following = FallbackSelected(
            **decided,
            callers_url=happened.callers_url or None,
            skipped=happened.skipped or None,
            ignored=list(call.ignored) or None,
        )
    return [
        generation_failed(happened.failure, happened.seen, exchange, views),
        *happened.files,
        following,
        generation_started(happened, **identity, held=happened.held),
    ]


def _failed(happened: Failed, exchange: Exchange, views: Views) -> list[Event]:
    failure = happened.failure
    generation = _unfinished(failure, happened.seen, exchange, views)
    return [
        *generation,
        *_exhausted(happened, exchange),
        RequestFailed(
            **identity_of(exchange),
            status=happened.status,
            attempts=exchange.attempts,
            duration_ms=happened.duration_ms,
            overhead_ms=happened.overhead_ms,
            error=happened.error if exchange.retained else unkept(happened.error),
            fault_domain=failure.fault_domain,
            began=happened.payload.began,
            payload_digest=happened.payload.digest,
            payload_length=happened.payload.length,
            cost_usd=fold(exchange, generation).cost,
            headers=failure.headers,
        ),
    ]


def _exhausted(happened: Failed, exchange: Exchange) -> list[Event]:
    exhausted = happened.exhausted
    if exhausted is None or exhausted.inputs is None:
        return []
    return [
        RetryExhausted(
            **identity_of(exchange),
            attempts=exchange.attempts,
            reason=str(happened.failure.status or happened.failure.kind),
            inputs=exhausted.inputs,
            skipped=exhausted.skipped or None,
        )
    ]


def _left(happened: Left, exchange: Exchange, views: Views) -> list[Event]:
    left = Failure(happened.reason, "the client left before the answer was whole", "caller")
    failure, error = happened.stop or left, happened.error
    generation = _unfinished(failure, happened.seen, exchange, views)
    return [
        *generation,
        RequestCancelled(
            **identity_of(exchange),
            reason=happened.reason,
            attempts=exchange.attempts,
            duration_ms=happened.duration_ms,
            payload_digest=happened.payload.digest,
            payload_length=happened.payload.length,
            cost_usd=fold(exchange, generation).cost,
            status=happened.status,
            error=error if error is None or exchange.retained else unkept(error),
            began=None if error is None else happened.payload.began,
        ),
    ]


def _interrupted(happened: Interrupted, exchange: Exchange, views: Views) -> list[Event]:
    events: list[Event] = []
    if exchange.phase == "generating" and happened.seen is not None:
        failure = Failure("interrupted", f"the gateway ended before the answer did ({happened.reason})", "gateway")
        if exchange.hedge is not None:
            events.append(hedge_lost(HedgeLost(failure, True, 0.0), exchange, views))
        events.append(generation_failed(failure, happened.seen, exchange, views))
    payload = happened.payload
    events.append(
        RequestInterrupted(
            request_id=exchange.request_id,
            reason=happened.reason,
            incarnation=happened.incarnation,
            attempts=exchange.attempts,
            provider=exchange.provider,
            model=exchange.model,
            cost_usd=fold(exchange, events).cost,
            payload_digest=payload.digest if payload else None,
            payload_length=payload.length if payload else None,
        )
    )
    return events


def _unfinished(failure: Failure, seen: Seen, exchange: Exchange, views: Views) -> list[Event]:
    """The end of the attempt that was under way; none was between two rounds, while tools ran."""
    return [] if exchange.phase == "settled" else [generation_failed(failure, seen, exchange, views)]


def unkept(error: dict[str, Any]) -> dict[str, Any]:
    """The error without what could quote the request."""
    return {"message": UNKEPT, "type": error["type"], "param": None, "code": error.get("code")}


def _tools(seen: Seen, exchange: Exchange, identity: dict[str, Any]) -> list[Event]:
    """One `tool_called` for each call the model asked for."""
    called: list[Event] = []
    for choice in seen.choices or ():
        for call in choice["message"].get("tool_calls") or ():
            inner = call.get(call["type"]) or {}
            called.append(
                ToolCalled(
                    **identity,
                    attempt=exchange.attempt,
                    tool_name=inner.get("name") or "",
                    call_id=call.get("id") or "",
                    choice=choice["index"],
                    arguments=inner.get("arguments", inner.get("input")) if exchange.retained else None,
                )
            )
    return called
