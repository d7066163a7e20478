"""Which answer a request can be given: the newest of those that its places have, or that of a question like its own.

A running request is such a source too, where its answer will have the form that is asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from eventstore.catalogue.request import RequestCompleted
from eventstore.catalogue.values import Usd
from eventstore.envelope import RecordedEvent, StreamWrite
from eventstore.errors import LogCorrupt
from eventstore.log import Log
from gateway.errors import KeyReused
from gateway.exchange.alike import Near, Question
from gateway.exchange.claims import Claim, Place, age_s, recorded_at
from gateway.exchange.ids import stream_of
from gateway.exchange.inputs import Submission
from gateway.exchange.proven import prove
from gateway.exchange.run import Exchanges
from gateway.exchange.running import running_of
from gateway.exchange.shared import Attached, Cached, Source, may_serve_others
from gateway.exchange.staying import Staying

MOST_CLAIMS = 8
"""So many claims are looked at: those whose requests failed, or still run for another form of the answer, have none."""

logger = logging.getLogger(__name__)


class Likeness(Protocol):
    """Finds questions like one that is asked; see `gateway.nearest.Nearest`."""

    async def vector(self, question: Question) -> bytes | None:
        """The question as a vector, if it can be had soon."""

    async def like(self, question: Question, vector: bytes) -> list[Near]:
        """Who asked something alike, the most alike first."""

    def mark(self, question: Question, request_id: str, vector: bytes, at: int) -> StreamWrite:
        """What makes a request one that others can be like, from a time on the steady clock on."""


class Sources:
    """Finds sources. `steady_us`: microseconds since 1970 UTC on a clock that no jump moves."""

    def __init__(
        self, exchanges: Exchanges, log: Log, steady_us: Callable[[], int], nearest: Likeness | None = None
    ) -> None:
        self._exchanges, self._log, self._steady_us, self._nearest = exchanges, log, steady_us, nearest

    async def _look(
        self, submission: Submission, places: Sequence[Place], actual: Mapping[str, int]
    ) -> Source | tuple[Claim, ...]:
        """An answer at one of these places, or the claims to all of them. `actual` are the versions of streams as an
        append found them: where all claims were dropped from the archive there is nothing to read them from."""
        claims = []
        for place in places:
            recorded = await self._claimed(place)
            found = None if place.fresh else await self._newest(submission, place, recorded)
            if found is not None:
                return found
            version = recorded[-1].version if recorded else actual.get(place.stream, 0)
            claims.append(Claim(place, version, self._steady_us()))
        return tuple(claims)

    async def _claimed(self, place: Place) -> list[RecordedEvent]:
        """The claims to a place. None to one of the cache where they are damaged: its answers can be had again, by a
        call, while that of a key is the only one. Raises `LogCorrupt`."""
        try:
            return await self._log.read_stream(place.stream)
        except LogCorrupt as error:
            if place.kind != "cache":
                raise
            _passed_over(error)
            return []

    async def _newest(self, submission: Submission, place: Place, claimed: Sequence[RecordedEvent]) -> Source | None:
        """The answer of the newest of these claims that has one; of a key only the last claim counts."""
        for each in reversed(claimed[-MOST_CLAIMS:]):
            found = await self._source(submission, place, each)
            if found is not None or place.kind == "idempotency":
                return found
        return None

    async def _source(self, submission: Submission, place: Place, claimed: RecordedEvent) -> Source | None:
        """The answer that a claim speaks of, if it can be given. Raises `KeyReused`."""
        source, age = claimed.body["request_id"], age_s(recorded_at(claimed, self._log.origin), self._steady_us())
        if age > place.max_age_s:
            return None
        if claimed.body["asked"] != place.asked:
            if await self._holds(source):
                raise KeyReused("This Idempotency-Key was sent with another request.", param="Idempotency-Key")
            return None
        if self._join(source, submission, place):
            return Attached(source, "idempotency_key" if place.kind == "idempotency" else "in_flight")
        if place.kind == "cache":
            return await self._completed(source, age)
        return Attached(source, "idempotency_key") if await self._whole(source) else None

    async def _holds(self, source: str) -> bool:
        """Whether the key still stands for a request: it runs, or has a whole answer."""
        return running_of(source, self._exchanges.open) is not None or await self._whole(source)

    async def _whole(self, source: str) -> bool:
        events = await self._log.read_stream(stream_of(source))
        return bool(events) and events[-1].type == RequestCompleted.type

    async def _completed(self, source: str, age: float) -> Cached | None:
        """The answer of a request, if it has one for others, and it is not damaged."""
        try:
            events = await self._log.read_stream(stream_of(source))
            if not may_serve_others(events):
                return None
            await prove(self._log, events)
        except LogCorrupt as error:
            _passed_over(error)
            return None
        cost = events[-1].body["cost_usd"]
        return Cached(source, round(age, 3), None if cost is None else Usd.parse(cost))

    def _join(self, source: str, submission: Submission, place: Place) -> bool:
        """Whether a request runs whose answer will have this form, and ends at no cap of somebody else; from now on it
        goes on though its client leaves."""
        running = running_of(source, self._exchanges.open)
        if running is None or running.verdict is not None or not isinstance(running.outlet, Staying):
            return False
        if _form(running.submission) != _form(submission):
            return False
        if place.kind == "cache" and running.outlet.most_cost not in (None, submission.most_cost):
            return False
        running.outlet.stays = True
        return True

    async def _alike(self, nearest: Likeness, question: Question, vector: bytes) -> Cached | None:
        """The answer to the question that is most like this one, of those that have an answer; none where the
        questions are damaged."""
        try:
            likes = await nearest.like(question, vector)
        except LogCorrupt as error:
            _passed_over(error)
            return None
        for near in likes:
            age = age_s(near.at, self._steady_us())
            found = await self._completed(near.request_id, age) if age <= question.max_age_s else None
            if found is not None:
                return replace(found, similarity=near.similarity)
        return None


def _passed_over(error: LogCorrupt) -> None:
    logger.error("an answer of the cache is passed over where the log is damaged: %s", error)


def _form(submission: Submission) -> tuple[object, ...]:
    return submission.streamed, submission.include_usage, submission.options
