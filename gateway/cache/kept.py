"""What is recorded of answers that are kept, and of requests that get them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eventstore.catalogue.cache import AnswerCached, CacheHit
from eventstore.catalogue.event import Event
from eventstore.catalogue.request import FileAttached, RequestCompleted
from eventstore.catalogue.values import Usd
from eventstore.envelope import ANY_VERSION, RecordedEvent, StreamWrite
from eventstore.value import value
from gateway.cache.asked import stream_of_key
from gateway.exchange.decide import received
from gateway.exchange.inputs import Payload, Submission
from gateway.exchange.runs import span_of


class Keeping:
    """Beside a request whose answer is to be kept: in the commit that completes it.

    An answer is kept that came at the first attempt, and whose request holds its files itself: what stands behind a URL
    or a path may be another thing tomorrow, and so may be what a tool said before a second attempt.
    """

    def __init__(self, key: str) -> None:
        self._key, self._fixed = key, True

    def beside(self, request_id: str, first: bool, events: Sequence[Event]) -> tuple[StreamWrite, ...]:
        """See `gateway.exchange.inputs.Beside`."""
        if first and any(isinstance(event, FileAttached) and event.source != "inline" for event in events):
            self._fixed = False
        end = events[-1]
        if not self._fixed or not isinstance(end, RequestCompleted) or end.attempts != 1:
            return ()
        kept = AnswerCached(request_id=request_id, cache_key=self._key)
        return (StreamWrite(stream_of_key(self._key), ANY_VERSION, (kept.new(),)),)


@value
class Found:
    """A kept answer, as its request's stream has it. `begin` and `end` are the positions around its frames, which are
    so many with that digest; `at_us` is when it was whole, in microseconds since 1970."""

    source: str
    attempt: int
    begin: int
    end: int
    frames: int
    frames_digest: str
    decoder: str
    held: str | None
    provider: str
    model: str
    at_us: int


def found(events: Sequence[RecordedEvent]) -> Found | None:
    """The answer among the events of a request; None where it has none that is whole."""
    if not events or events[-1].type != "request_completed":
        return None
    started = next((event for event in reversed(events) if event.type == "generation_started"), None)
    if started is None:
        return None
    body, attempt = started.body, started.body["attempt"]
    span = span_of(events, attempt)
    ended = next((e for e in events if e.type == "generation_completed" and e.body["attempt"] == attempt), None)
    if span is None or ended is None:
        return None
    return Found(
        source=body["request_id"],
        attempt=attempt,
        begin=span[0],
        end=span[1],
        frames=ended.body["frames"],
        frames_digest=ended.body["frames_digest"],
        decoder=body["decoder"],
        held=body.get("held"),
        provider=body["provider"],
        model=body["model"],
        at_us=events[-1].at,
    )


def hit(submission: Submission, key: str, kept: Found, now_us: int, payload: Payload, took_ms: float) -> list[Event]:
    """The whole of a request that gets a kept answer, as one commit."""
    identity: dict[str, Any] = {"request_id": submission.request_id, "provider": kept.provider, "model": kept.model}
    return [
        received(submission),
        CacheHit(
            **identity,
            source=kept.source,
            source_attempt=kept.attempt,
            cache_key=key,
            age_s=max(0.0, round((now_us - kept.at_us) / 1e6, 3)),
            decoder=kept.decoder,
            held=kept.held,
        ),
        RequestCompleted(
            **identity,
            status=200,
            attempts=0,
            duration_ms=took_ms,
            overhead_ms=took_ms,
            payload_digest=payload.digest,
            payload_length=payload.length,
            cost_usd=Usd(0),
        ),
    ]
