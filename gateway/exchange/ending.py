"""How an exchange ends: what its last verdict comes to is recorded, and then what is left of the answer is released."""

from __future__ import annotations

import logging

from eventstore.catalogue.values import milliseconds
from eventstore.envelope import Appended
from eventstore.errors import LogError
from gateway.exchange.attempt import Attempt
from gateway.exchange.calls import BROKEN
from gateway.exchange.failures import error_value
from gateway.exchange.inputs import Answered, Failed, Failure, Input, Interrupted, Left, Seen, Stop
from gateway.exchange.render import JSON_HEADERS
from gateway.exchange.running import Halt, Leave, Running, Verdict
from gateway.exchange.sequel import Sequels
from gateway.exchange.telling import STOPPING, error_body
from gateway.wire.values import WireError

logger = logging.getLogger(__name__)


class Endings(Sequels):
    """The part of the shell that ends an exchange whose request was served."""

    async def _settle(self, running: Running, attempt: Attempt, verdict: Verdict | None) -> None:
        """Record how it ended, with the frames still at hand; then release the rest of the answer."""
        running.outlet.ending()
        began = running.outlet.began or bool(attempt.text)
        try:
            happened, rest = self._ending(running, attempt, verdict, began)
            appended = await self._record(running, happened, frames=attempt.rows)
        except LogError:
            raise
        except Exception as error:
            verdict = Failure("bad_response", str(error)) if isinstance(error, WireError) else BROKEN
            if verdict is BROKEN:
                logger.exception("request %s failed at its end", running.submission.request_id)
            happened, rest = self._failed(running, attempt, verdict, attempt.least(self._monotonic()), began)
            appended = await self._record(running, happened, frames=attempt.rows, price=unpriced)
        del happened  # who is slow to take the rest does not keep what is recorded
        attempt.forget()
        if isinstance(verdict, Halt) and not began:
            running.outlet.answer(503, {**JSON_HEADERS, "retry-after": "1"}, error_body(running, 503, STOPPING))
        elif isinstance(verdict, (Leave, Halt)):
            await running.outlet.abort()
        elif running.submission.streamed and (verdict is None or began):
            await running.outlet.finish(rest)
        else:
            self._answer(running, verdict, rest, appended)

    def _ending(self, running: Running, attempt: Attempt, verdict: Verdict | None, began: bool) -> tuple[Input, bytes]:
        """What a verdict comes to, and the bytes that are still to be released."""
        now = self._monotonic()
        seen, rest = attempt.seen(now), attempt.text
        if isinstance(verdict, Failure):
            return self._failed(running, attempt, verdict, seen, began)
        if isinstance(verdict, Leave):
            took = milliseconds(now - running.started_at)
            return Left(verdict.reason, seen, attempt.payload(began, rest), took), rest
        if isinstance(verdict, Halt):
            return Interrupted(verdict.reason, self._log.origin, seen, attempt.payload(began, rest)), rest
        rest += attempt.renderer.completed(attempt.fold)
        return Answered(seen, attempt.payload(began, rest), *self._times(running, attempt)), rest

    def _failed(
        self, running: Running, attempt: Attempt, failure: Failure, seen: Seen, began: bool
    ) -> tuple[Input, bytes]:
        status, error = error_value(failure)
        rest = attempt.text + attempt.renderer.failed(error) if began else error_body(running, status, error)
        payload = attempt.payload(began, rest)
        if isinstance(failure, Stop):
            took = milliseconds(self._monotonic() - running.started_at)
            return Left(failure.reason, seen, payload, took, failure, error, status), rest
        return Failed(failure, error, status, seen, payload, *self._times(running, attempt), running.exhausted), rest

    def _times(self, running: Running, attempt: Attempt) -> tuple[float, float]:
        """Milliseconds since the request came, and those of them that are ours."""
        ours = attempt.called_at - running.started_at + running.own_s
        return milliseconds(self._monotonic() - running.started_at), milliseconds(ours)

    @staticmethod
    def _answer(running: Running, failure: Verdict | None, body: bytes, appended: Appended) -> None:
        """The whole answer, or the error instead of it."""
        headers, status = {**JSON_HEADERS, "x-abstractcore-position": str(appended.last)}, 200
        if isinstance(failure, Failure):
            status = error_value(failure)[0]
            headers |= failure.headers or {}
            running.outlet.answer(status, headers, body)
            return
        headers["content-type"] = running.content_type
        if running.exchange.cost is not None:
            headers["x-abstractcore-cost-usd"] = running.exchange.cost.decimal()
        running.outlet.answer(status, headers, body)


def unpriced(*_: object) -> tuple[None, None]:
    """The price where asking for it may be what failed."""
    return None, None
