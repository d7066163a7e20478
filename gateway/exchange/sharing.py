"""Runs requests whose answers may be another's: one upstream call, one charge, and the same bytes from the log.

Who came first runs as always, with a claim in its first commit. Who comes after it reads that answer from the log: as
it comes, or long after. Whose claim is refused because another was faster looks again. Where the log has no answer,
another gateway's may have one: that is recorded with the request that gets it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256

from eventstore.catalogue.event import Event
from eventstore.catalogue.request import TERMINAL
from eventstore.catalogue.values import milliseconds
from eventstore.envelope import Appended, StreamWrite
from eventstore.errors import LogBusy, LogCorrupt, LogError, WrongExpectedVersion
from eventstore.log import Log
from gateway.errors import not_now
from gateway.exchange.alike import Question
from gateway.exchange.calls import BROKEN
from gateway.exchange.claims import CACHE_HEADER, Claims, Place
from gateway.exchange.copying import Copying
from gateway.exchange.elsewhere import Copy, Elsewhere
from gateway.exchange.ids import stream_of
from gateway.exchange.inputs import Submission
from gateway.exchange.outlet import Outlet
from gateway.exchange.proven import check_bytes, for_a_caller, prove
from gateway.exchange.render import JSON_HEADERS, Rendered, form, recorded_form
from gateway.exchange.resume import Reading
from gateway.exchange.run import Exchanges
from gateway.exchange.running import Running
from gateway.exchange.shared import (
    Attached,
    Cached,
    Given,
    Source,
    began,
    ended,
    interrupted,
    own_form,
    rendered_copy,
)
from gateway.exchange.sources import Likeness, Sources
from gateway.exchange.staying import Staying
from gateway.exchange.telling import STOPPING, error_body, tell_broken

SOURCE_HEADER = "x-abstractcore-source"
SIMILARITY_HEADER = "x-abstractcore-similarity"

logger = logging.getLogger(__name__)


class Sharing(Sources):
    """`monotonic`: seconds; `elsewhere`: where gateways put answers for each other."""

    def __init__(
        self,
        exchanges: Exchanges,
        log: Log,
        steady_us: Callable[[], int],
        monotonic: Callable[[], float],
        elsewhere: Elsewhere | None = None,
        nearest: Likeness | None = None,
    ) -> None:
        super().__init__(exchanges, log, steady_us, nearest)
        self._monotonic, self._elsewhere = monotonic, elsewhere

    async def run(
        self, submission: Submission, outlet: Outlet, places: Sequence[Place], question: Question | None = None
    ) -> None:
        """Serve a request from the answers at these places, or by a call whose answer is theirs from then on. Where it
        asks a `question`, the answer to one like it will do.

        Raises `KeyReused`, `LogDamaged`, and what `Exchanges.run` raises.
        """
        vector: bytes | None = None
        actual: dict[str, int] = {}
        while True:
            with for_a_caller():
                found = await self._look(submission, places, actual)
            if not isinstance(found, tuple):
                await self._share(submission, outlet, found)
                return
            if self._elsewhere is not None and await self._found_elsewhere(submission, outlet, places):
                return
            marks: tuple[StreamWrite, ...] = ()
            if self._nearest is not None and question is not None:
                vector = vector or await self._nearest.vector(question)
                if vector is not None and (near := await self._alike(self._nearest, question, vector)):
                    await self._share(submission, outlet, near)
                    return
                marked = (question, submission.request_id)
                marks = (self._nearest.mark(*marked, vector, self._steady_us()),) if vector else ()
            moved = await self._called(replace(submission, claims=Claims(found, marks)), outlet, places)
            if moved is None:
                return
            actual[moved.stream] = moved.actual

    async def _called(
        self, submission: Submission, outlet: Outlet, places: Sequence[Place]
    ) -> WrongExpectedVersion | None:
        """Make the call, whose answer is these places' from then on, unless another was faster at one of them."""
        kinds = {place.kind for place in places}
        own = {CACHE_HEADER: "miss"} if "cache" in kinds else {}
        try:
            await self._exchanges.run(submission, Staying(outlet, "idempotency" in kinds, submission.most_cost, own))
        except WrongExpectedVersion as moved:
            if all(moved.stream != place.stream for place in places):
                raise
            return moved
        if self._elsewhere is not None:
            for place in places:
                self._elsewhere.publish(place, submission.request_id, self._steady_us())
        return None

    async def again(self, submission: Submission, outlet: Outlet, places: Sequence[Place]) -> bool:
        """Whether the request was given an answer that is at these places. Raises `KeyReused`, `LogDamaged`."""
        with for_a_caller():
            found = await self._look(submission, places, {})
        if isinstance(found, tuple):
            return False
        await self._share(submission, outlet, found)
        return True

    async def _found_elsewhere(self, submission: Submission, outlet: Outlet, places: Sequence[Place]) -> bool:
        """Whether the request was given an answer that another gateway put where all can find it."""
        for place in places:
            found = self._elsewhere and await self._elsewhere.find(place, self._steady_us())
            if not found:
                continue
            cached = Cached(found.copied.request_id, found.age_s, found.copied.cost)
            if found.here and (own := await self._completed(cached.source, cached.age_s)) is not None:
                await self._share(submission, outlet, own)
                return True
            rendered = rendered_copy(submission, found.copied)
            if rendered is not None:
                await self._give(submission, outlet, cached, found, rendered)
                return True
        return False

    async def _give(
        self, submission: Submission, outlet: Outlet, cached: Cached, found: Copy, rendered: Rendered
    ) -> None:
        """Give a request the copy of another gateway's answer, which is recorded with it."""
        cached = replace(cached, copy=sha256(found.data).hexdigest())
        with self._open(submission, Staying(outlet, stays=True), await self._log.head()) as running:
            outlet.prepare({"x-request-id": submission.request_id, SOURCE_HEADER: cached.source, **_headers(cached)})
            outlet.ending()
            took = milliseconds(self._monotonic() - running.started_at)
            given = Given(rendered.digest, len(rendered.body), took)
            end = ended(submission.request_id, found.copied.events[-1], given, self._log.origin)
            try:
                appended = await self._append(running, [*began(submission, cached), end], True, (found.data,))
            except LogBusy as busy:
                raise not_now(busy) from busy
            told = {"x-abstractcore-position": str(appended.last), "x-abstractcore-cost-usd": "0"}
            if submission.streamed:
                outlet.prepare(told)
                await outlet.finish(rendered.body)
            else:
                outlet.answer(rendered.status, {**rendered.headers, **told}, rendered.body)

    async def _share(self, submission: Submission, outlet: Outlet, source: Source) -> None:
        """Give a request the answer of its source, as far as there is one, and record what it got. Raises
        `LogDamaged`."""
        if isinstance(source, Attached):  # what is cached was proven when it was found
            with for_a_caller():
                await prove(self._log, await self._log.read_stream(stream_of(source.source)))
        with self._open(submission, Staying(outlet, stays=True), await self._log.head()) as running:
            outlet.prepare({"x-request-id": submission.request_id, SOURCE_HEADER: source.source, **_headers(source)})
            appended = await self._begin(running, source)
            outlet.prepare({"x-abstractcore-position": str(appended.last)})
            try:
                await self._follow(running, outlet, source)
            except Exception as error:
                if running.exchange.phase == "ended" or _is_the_logs_end(error):
                    raise
                logger.exception("request %s failed", submission.request_id)
                await self._append(running, [interrupted(submission.request_id, BROKEN.kind, self._log.origin)])
                await tell_broken(running)

    async def _follow(self, running: Running, outlet: Outlet, source: Source) -> None:
        """Read the source's answer to its end."""
        submission = running.submission
        as_sent = isinstance(source, Attached) and source.reason == "idempotency_key"
        make_form = recorded_form if as_sent else own_form(form(submission))
        copy = Copying(Reading(self._log, stream_of(source.source), make_form, as_sent=True), submission.streamed)
        try:
            running.waiting = running.verdict is None
            if running.waiting:
                await copy.follow(self._log, outlet)
        except asyncio.CancelledError:
            if running.verdict is None:
                raise
            running.task.uncancel()
        finally:
            running.waiting = False
        if as_sent and copy.end is not None:
            check_bytes(copy.digest, copy.end)
        await self._settle(running, copy)

    async def _begin(self, running: Running, source: Source) -> Appended:
        try:
            return await self._append(running, began(running.submission, source), admit=True)
        except LogBusy as busy:
            raise not_now(busy) from busy

    async def _settle(self, running: Running, copy: Copying) -> None:
        """Record how it ended, then release the rest."""
        outlet, request_id = running.outlet, running.submission.request_id
        outlet.ending()
        if copy.end is None:
            end = interrupted(request_id, "shutdown", self._log.origin)
        else:
            took = milliseconds(self._monotonic() - running.started_at)
            end = ended(request_id, copy.end, Given(copy.digest, copy.length, took), self._log.origin)
        appended = await self._append(running, [end])
        if copy.end is not None and copy.whole:
            await copy.hand_over(outlet, appended)
        elif outlet.began:
            await outlet.abort()
        else:
            outlet.answer(503, {**JSON_HEADERS, "retry-after": "1"}, error_body(running, 503, STOPPING))

    @contextmanager
    def _open(self, submission: Submission, outlet: Outlet, position: int) -> Iterator[Running]:
        """One of the open exchanges, as any other: an orderly stop waits for it, and ends it. A start after a crash
        finds it behind `position`."""
        task = asyncio.current_task()
        assert task is not None
        running = Running(submission, outlet, task, self._monotonic(), position)
        self._exchanges.enter(running)
        try:
            yield running
        finally:
            self._exchanges.leave(running)

    async def _append(
        self, running: Running, events: Sequence[Event], admit: bool = False, more: tuple[bytes, ...] = ()
    ) -> Appended:
        submission, version = running.submission, running.exchange.version
        write = StreamWrite(stream_of(submission.request_id), version, tuple(event.new() for event in events))
        blobs = more if version else (*submission.blobs, *more)
        appended = await self._log.append(write, blobs=blobs, admit=admit)
        running.exchange = replace(
            running.exchange,
            version=version + len(events),
            phase="ended" if events[-1].type in TERMINAL else "received",
        )
        return appended


def _is_the_logs_end(error: Exception) -> bool:
    """Whether nothing more can be recorded. What is damaged in it is another thing."""
    return isinstance(error, LogError) and not isinstance(error, LogCorrupt)


def _headers(source: Source) -> dict[str, str]:
    if isinstance(source, Cached):
        alike = {} if source.similarity is None else {SIMILARITY_HEADER: str(source.similarity)}
        return {CACHE_HEADER: "hit", "age": str(int(source.age_s)), **alike}
    if source.reason == "in_flight":
        return {CACHE_HEADER: "shared"}
    return {"idempotent-replayed": "true"}
