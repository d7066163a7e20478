"""An exchange whose answer is another's: what is recorded of it, and how that answer is rendered for it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eventstore.catalogue.answer import AttachReason, CacheHit, RequestAttached
from eventstore.catalogue.event import Event
from eventstore.catalogue.generation import FallbackSelected, GenerationStarted, HedgeStarted
from eventstore.catalogue.request import RequestCancelled, RequestCompleted, RequestFailed, RequestInterrupted
from eventstore.catalogue.values import Usd
from eventstore.envelope import RecordedEvent, RecordedFrames
from eventstore.errors import LogError
from eventstore.value import value
from gateway.exchange.copied import MALFORMED, Copied, unpack
from gateway.exchange.decide import received
from gateway.exchange.inputs import Submission
from gateway.exchange.render import (
    MakeForm,
    NotRenderable,
    Rendered,
    Rendering,
    form,
    pieces_again,
    recorded_form,
    render_again,
)
from gateway.wire.dialect import Form
from gateway.wire.values import WireError

FREE = Usd(0)
SHARED = frozenset({CacheHit.type, RequestAttached.type})
INTERRUPTED = "source_ended"
"""Why an exchange was interrupted whose source was cut, and has no answer."""


@value
class Cached:
    """The answer of a request that completed `age_s` seconds ago, and cost `saved`. `copy`: the digest (sha256, hex) of
    the blob that it is read from, where the request is another gateway's. `similarity`: how alike what they ask is
    (a cosine), where it is not the same."""

    source: str
    age_s: float
    saved: Usd | None
    copy: str | None = None
    similarity: float | None = None


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
        found: Event = CacheHit(
            request_id=request_id,
            source=source.source,
            age_s=source.age_s,
            saved_usd=source.saved,
            kind=None if source.similarity is None else "semantic",
            similarity=source.similarity,
            copy=source.copy,
        )
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


def may_serve_others(events: Sequence[RecordedEvent]) -> bool:
    """Whether the answer of a request with these events is one for who asks the same: it is whole, and of the model
    that was asked. One that stood in for it may soon not be needed any more."""
    whole = bool(events) and events[-1].type == RequestCompleted.type
    return whole and not any(event.type == FallbackSelected.type for event in events) and not _hedge_won(events)


def _hedge_won(events: Sequence[RecordedEvent]) -> bool:
    beside = {event.body["attempt"] for event in events if event.type == HedgeStarted.type}
    return any(event.type == GenerationStarted.type and event.body["attempt"] in beside for event in events)


def copy_of(events: Sequence[RecordedEvent]) -> bytes | None:
    """The digest of the blob with the copied answer that these events say their request was given, if it was one."""
    copy = next((event.body.get("copy") for event in events if event.type == CacheHit.type), None)
    return None if copy is None else bytes.fromhex(copy)


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


def render_copy(events: Sequence[RecordedEvent], copy: bytes) -> Rendered:
    """The same from its own events and a copied answer. Raises as `render_again`."""
    copied = unpack(copy)
    return render_shared(events, copied.events, copied.frames)


def rendered_copy(submission: Submission, copied: Copied) -> Rendered | None:
    """A copied answer for a request that is not recorded yet; None where this version of the gateway cannot read it."""
    try:
        return render_again(copied.events, copied.frames, own_form(form(submission)), as_sent=True)
    except (NotRenderable, LogError, WireError, *MALFORMED):
        return None


def copied_pieces(events: Sequence[RecordedEvent], copy: bytes, form: MakeForm) -> Iterator[bytes]:
    """What is in it, piece by piece, in another form than was sent."""
    copied = unpack(copy)
    return pieces_again(Rendering(form_for(events, form), form is recorded_form), copied.events, copied.frames)
