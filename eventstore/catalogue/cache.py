"""Answers that are given again. The log is the cache: which answer stands for a key is on a stream of that key,
`cache-<sha256 hex>`; the answer itself stands where it was first given."""

from __future__ import annotations

from typing import ClassVar

from eventstore.catalogue.event import Event, event
from eventstore.value import value


@event
@value(kw_only=True)
class AnswerCached(Event):
    """The whole answer of `request_id` may be given to others that ask the same. The newest on its stream counts."""

    type: ClassVar[str] = "answer_cached"

    request_id: str
    cache_key: str


@event
@value(kw_only=True)
class CacheHit(Event):
    """The request is answered with what `source` got in its attempt `source_attempt`, from this `provider` and `model`,
    `age_s` seconds ago: no upstream is called, nothing is charged. `decoder` and `held` are those of that attempt."""

    type: ClassVar[str] = "cache_hit"

    request_id: str
    source: str
    source_attempt: int
    cache_key: str
    age_s: float
    provider: str
    model: str
    decoder: str
    held: str | None = None
