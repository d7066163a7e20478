"""One upstream attempt for a request, on the request's stream.

Its frames lie in the frames lane, bound by count and digest."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from eventstore.catalogue.event import Event, event
from eventstore.catalogue.request import FaultDomain
from eventstore.catalogue.values import Usd
from eventstore.value import value

UsageSource = Literal["provider", "estimated", "none"]


@event
@value(kw_only=True)
class GenerationStarted(Event):
    """The upstream call is about to be made. `decoder` names how its frames are read, for ever: `<wire>.<version>`;
    `streamed` says whether frames are stream messages or one whole body. `call_digest` is sha256 of the body sent,
    `prompt_length` its length for estimates, files counted for what they are to a model; absent where that is
    `call_length`. `held` names how the answer is cleaned that is shown only once it is whole and right."""

    type: ClassVar[str] = "generation_started"

    request_id: str
    attempt: int
    provider: str
    model: str
    decoder: str
    streamed: bool
    url: str
    call_digest: str
    call_length: int
    prompt_length: int | None = None
    held: str | None = None


@event
@value(kw_only=True)
class GenerationCompleted(Event):
    """The upstream's answer ended properly. `choices` is `[{index, message, finish_reason}]` in OpenAI's shape, absent
    with retention none. `usage` is normalised (see `Usage`), `usage_raw` as the provider sent it.
    `cost_usd` is booked now, under `price_rule`, and never changes; null where no price is known."""

    type: ClassVar[str] = "generation_completed"
    EXPLICIT: ClassVar[frozenset[str]] = frozenset({"cost_usd"})
    MONEY: ClassVar[frozenset[str]] = frozenset({"cost_usd"})
    CONTENT: ClassVar[frozenset[str]] = frozenset({"choices"})

    request_id: str
    attempt: int
    provider: str
    model: str
    finish_reason: str
    tokens_input: int
    tokens_output: int
    usage: dict[str, int]
    usage_source: UsageSource
    cost_usd: Usd | None
    duration_ms: float
    frames: int
    frames_digest: str
    tokens_input_cached: int = 0
    ttft_ms: float | None = None
    choices: list[dict[str, Any]] | None = None
    usage_raw: dict[str, Any] | None = None
    price_rule: str | None = None
    provider_model: str | None = None
    provider_request_id: str | None = None


@event
@value(kw_only=True)
class GenerationFailed(Event):
    """The attempt gave no whole answer: refused, cut, timed out, cancelled, or interrupted by our own end. `kind` is a
    closed set of words; `began` says whether content had arrived. What was seen is accounted (usually estimated)."""

    type: ClassVar[str] = "generation_failed"
    EXPLICIT: ClassVar[frozenset[str]] = frozenset({"cost_usd"})
    MONEY: ClassVar[frozenset[str]] = frozenset({"cost_usd"})
    CONTENT: ClassVar[frozenset[str]] = frozenset({"choices"})

    request_id: str
    attempt: int
    provider: str
    model: str
    kind: str
    message: str
    fault_domain: FaultDomain
    began: bool
    tokens_input: int
    tokens_output: int
    usage: dict[str, int]
    usage_source: UsageSource
    cost_usd: Usd | None
    frames: int
    frames_digest: str
    tokens_input_cached: int = 0
    duration_ms: float | None = None
    status: int | None = None
    code: str | None = None
    param: str | None = None
    retry_after_s: float | None = None
    headers: dict[str, str] | None = None
    choices: list[dict[str, Any]] | None = None
    usage_raw: dict[str, Any] | None = None
    price_rule: str | None = None


@event
@value(kw_only=True)
class ValidationFailed(Event):
    """A whole answer was not what the request asked for, and nobody was shown it. The model is told the `problem`."""

    type: ClassVar[str] = "validation_failed"
    CONTENT: ClassVar[frozenset[str]] = frozenset({"problem"})

    request_id: str
    provider: str
    model: str
    attempt: int
    problem: str | None = None


@event
@value(kw_only=True)
class RetryAttempted(Event):
    """Another attempt follows, `delay_s` seconds later: `attempt` is its number, `inputs` what the decision was made
    from. `continued`: it goes on with the answer of which the client has what the one before gave, `frame` frames."""

    type: ClassVar[str] = "retry_attempted"

    request_id: str
    provider: str
    model: str
    attempt: int
    reason: str
    inputs: dict[str, Any]
    delay_s: float | None = None
    continued: bool | None = None
    frame: int | None = None


@event
@value(kw_only=True)
class RetryExhausted(Event):
    """What was tried after a failure failed too, or could not take the request (`skipped`: model -> why): the failure
    stands. `inputs` is what this was decided from."""

    type: ClassVar[str] = "retry_exhausted"

    request_id: str
    provider: str
    model: str
    attempts: int
    reason: str
    inputs: dict[str, Any]
    skipped: dict[str, str] | None = None


@event
@value(kw_only=True)
class FallbackSelected(Event):
    """The next attempt goes to this `provider` and `model`: nobody has seen anything of the one that failed (`reason`),
    or it goes on where that one stopped (`continued`, behind its `frame` frames). `skipped` names models that come
    before it in the request's list and could not take it, and why."""

    type: ClassVar[str] = "fallback_selected"

    request_id: str
    provider: str
    model: str
    attempt: int
    reason: str
    inputs: dict[str, Any]
    callers_url: bool | None = None
    skipped: dict[str, str] | None = None
    ignored: list[str] | None = None
    continued: bool | None = None
    frame: int | None = None


@event
@value(kw_only=True)
class HedgeStarted(Event):
    """The attempt under way has brought nothing in `after_ms` milliseconds: a call to this `provider` and `model` is
    about to be made beside it, under the number `attempt`. Where it wins, a `generation_started` of it follows,
    else a `generation_failed`. `call_digest` and `prompt_length` as in `generation_started`."""

    type: ClassVar[str] = "hedge_started"

    request_id: str
    attempt: int
    provider: str
    model: str
    after_ms: int
    url: str
    call_digest: str
    call_length: int
    inputs: dict[str, Any]
    callers_url: bool | None = None
    ignored: list[str] | None = None
    prompt_length: int | None = None
