"""Answers that several requests have: who holds one, on a stream of its own, and who was given it.

A claim stands on `idempotency-<digest>` or `cache-<digest>`: its last event names the request whose answer counts. It
is recorded in one commit with that request's first events, at the version that was read, so that of two requests at
once only one calls an upstream.

`steady_at` is when, in microseconds since 1970 UTC as its incarnation counts them: from what the log's clock said when
it began, by a clock that no jump moves. Ages within one incarnation are measured by it.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from eventstore.catalogue.event import Event, event
from eventstore.catalogue.values import Usd
from eventstore.value import value

ClaimKind = Literal["idempotency", "cache"]
HitKind = Literal["semantic"]
AttachReason = Literal["idempotency_key", "in_flight"]


@event
@value(kw_only=True)
class AnswerClaimed(Event):
    """From now on the answer of this request is the one for all that ask the same (`cache`), or that carry the same
    Idempotency-Key (`idempotency`; then `asked` is the digest of what it was sent with)."""

    type: ClassVar[str] = "answer_claimed"

    request_id: str
    kind: ClaimKind
    key: str
    asked: str
    steady_at: int | None = None


@event
@value(kw_only=True)
class QuestionEmbedded(Event):
    """What the request asks, as a vector: from now on its answer is one for questions like it, on whose stream
    (`alike-<digest>`) this stands. `vector` is base64 of half-precision floats, little-endian, of length 1 together;
    `model` made it."""

    type: ClassVar[str] = "question_embedded"
    CONTENT: ClassVar[frozenset[str]] = frozenset({"vector"})

    request_id: str
    key: str
    model: str
    vector: str
    steady_at: int | None = None


@event
@value(kw_only=True)
class RequestAttached(Event):
    """The request gets the answer of another, `source`, which is running (`in_flight`: it asks the same) or was sent
    with the same Idempotency-Key. No upstream is called for it."""

    type: ClassVar[str] = "request_attached"

    request_id: str
    source: str
    reason: AttachReason


@event
@value(kw_only=True)
class CacheHit(Event):
    """The request gets the answer that another, `source`, got `age_s` seconds ago. `saved_usd` is what that cost.

    Where they ask the same it has no `kind`; where what they ask is alike it is `semantic`, and `similarity` the cosine
    of the two. `copy` is the digest (sha256, hex) of the blob that the answer is read from, where `source` is a request
    of another gateway, which this log does not have."""

    type: ClassVar[str] = "cache_hit"
    EXPLICIT: ClassVar[frozenset[str]] = frozenset({"saved_usd"})
    MONEY: ClassVar[frozenset[str]] = frozenset({"saved_usd"})

    request_id: str
    source: str
    age_s: float
    saved_usd: Usd | None
    kind: HitKind | None = None
    similarity: float | None = None
    copy: str | None = None
