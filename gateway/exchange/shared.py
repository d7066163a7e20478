"""An exchange whose answer is another's: what is recorded of it, and how that answer is rendered for it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eventstore.catalogue.answer import AttachReason, CacheHit, RequestAttached
from eventstore.catalogue.event import Event
from eventstore.catalogue.request import RequestCancelled, RequestCompleted, RequestFailed, RequestInterrupted
from eventstore.catalogue.values import Usd
from eventstore.envelope import RecordedEvent, RecordedFrames
from eventstore.value import value
from gateway.exchange.decide import received
from gateway.exchange.inputs import Submission
from gateway.exchange.render import MakeForm, Rendered, recorded_form, render_again
from gateway.wire.dialect import Form

FREE = Usd(0)
SHARED = frozenset({CacheHit.type, RequestAttached.type})
INTERRUPTED = "source_ended"
"""Why an exchange was interrupted whose source was cut, and has no answer."""


@value
class Cached:
    """The answer of a request that completed `age_s` seconds ago, and cost `saved`."""

    source: str
    age_s: float
    saved: Usd | None


@value
class Attached:
    """The answer of a request that runs, or that was sent with the same Idempotency-Key."""

    source: str
    reason: AttachReason


Source = Cached | Attached


@value
class Given:
    """What its client was given, when its source had ended: sha256 and length, and how long it took."""

    digest: str
    length: int
    duration_ms: float


def began(submission: Submission, source: Source) -> list[Event]:
    """How such an exchange begins."""
    request_id = submission.request_id
    if isinstance(source, Cached):
        found: Event = CacheHit(request_id=request_id, source=source.source, age_s=source.age_s, saved_usd=source.saved)
    else:
        found = RequestAttached(request_id=request_id, source=source.source, reason=source.reason)
    return [received(submission), found]


def ended(request_id: str, end: RecordedEvent, given: Given, incarnation: str) -> Event:
    """How it ends when its source has ended so: in the same way, at no cost."""
    body = end.body
    carried: dict[str, Any]
    said: dict[str, Any] = {
        "request_id": request_id,
        "provider": body.get("provider") or "",
        "model": body.get("model") or "",
        "attempts": 0,
        "cost_usd": FREE,
        "duration_ms": given.duration_ms,
        "payload_digest": given.digest,
        "payload_length": given.length,
    }
    if end.type == RequestCompleted.type:
        return RequestCompleted(**said, status=body["status"], overhead_ms=given.duration_ms)
    if end.type == RequestFailed.type:
        carried = {name: body.get(name) for name in ("status", "error", "fault_domain", "began", "headers")}
        return RequestFailed(**said, **carried, overhead_ms=given.duration_ms)
    if end.type == RequestCancelled.type and body.get("error") is not None:
        carried = {name: body.get(name) for name in ("reason", "status", "error", "began")}
        return RequestCancelled(**said, **carried)
    return interrupted(request_id, INTERRUPTED, incarnation)


def interrupted(request_id: str, reason: str, incarnation: str) -> Event:
    """It has no answer: its source was cut, or the gateway ends."""
    return RequestInterrupted(request_id=request_id, reason=reason, incarnation=incarnation, attempts=0, cost_usd=FREE)


def source_of(events: Sequence[RecordedEvent]) -> str | None:
    """The request whose answer these events of another say it was given; None where it has one of its own."""
    return next((event.body["source"] for event in events if event.type in SHARED), None)


def form_for(events: Sequence[RecordedEvent], form: MakeForm = recorded_form) -> MakeForm:
    """The form of another's answer for the request of these events: with an Idempotency-Key the source's, else as if it
    had been its own. `form` makes another than was sent."""
    shared = next(event.body for event in events if event.type in SHARED)
    if shared.get("reason") == "idempotency_key":
        return form
    return own_form(form(events[0].body))


def own_form(form: Form) -> MakeForm:
    """That form, whatever the source's is."""

    def make(_: Mapping[str, Any]) -> Form:
        return form

    return make


def render_shared(
    events: Sequence[RecordedEvent],
    source: Sequence[RecordedEvent],
    frames: Mapping[int, Sequence[RecordedFrames]],
) -> Rendered:
    """The answer of an exchange from its own events and those of its source. Raises as `render_again`."""
    return render_again(source, frames, form_for(events), as_sent=True)
