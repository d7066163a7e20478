"""What follows an attempt: another that is told what was wrong, the same again, another model, or nothing."""

from __future__ import annotations

import asyncio
import logging

from eventstore.catalogue.values import Usd
from gateway.exchange.attempt import Attempt
from gateway.exchange.calls import BROKEN, ignored, told_elsewhere
from gateway.exchange.continuation import Said, said_so_far
from gateway.exchange.decide_attempt import Views, generation_failed, used
from gateway.exchange.inputs import Exhausted, Failure, Seen
from gateway.exchange.plan import Plan
from gateway.exchange.policy import Policy
from gateway.exchange.race import Races
from gateway.exchange.render import dialect, form
from gateway.exchange.running import Running, Verdict, final
from gateway.exchange.state import total
from gateway.exchange.successor import Corrected, Following, Successor, Successors
from gateway.wire.continued import Continued
from gateway.wire.held import HELD, Held
from gateway.wire.structure import MOST_ATTEMPTS
from gateway.wire.values import Fold, WireError

logger = logging.getLogger(__name__)


class Sequels(Races):
    """The part of the shell that looks at how an attempt ended, and begins the next."""

    _successors: Successors

    async def _judged(
        self, running: Running, plan: Plan, attempt: Attempt, verdict: Verdict | None
    ) -> tuple[Following | None, Verdict | None]:
        """What an attempt calls for: the one that follows, or the verdict that stands."""
        if verdict is None:
            corrected, verdict = self._checked(running, plan, attempt.fold)
            if corrected is not None or verdict is None:
                return corrected, None
        following = await self._successor(running, plan, attempt, verdict)
        return following, verdict if following is not None else running.verdict or verdict

    async def _successor(self, running: Running, plan: Plan, attempt: Attempt, verdict: Verdict) -> Successor | None:
        """What follows a failure, where the request allows any more: if the client saw some of the answer, only where
        that can be gone on with. Nothing does where `running.verdict` ends the exchange meanwhile."""
        submission, said = running.submission, None
        if submission.policy is None or type(verdict) is not Failure:
            return None
        if attempt.shown and (said := _so_far(running, plan, attempt, submission.policy)) is None:
            return None
        if running.exchange.phase != "generating":
            return None
        left = None if submission.most_cost is None else self._left(running, attempt, verdict, submission.most_cost)
        elapsed_s = self._monotonic() - running.started_at
        decided = (verdict, submission, plan, running.tried, elapsed_s, self._now_us(), said, left)
        if not final(running.verdict):  # that of the attempt that is over
            running.verdict = None
        if running.verdict is not None:  # it came while a commit was waited for, and will not come again
            return None
        found: Successor | Exhausted | None = None
        with running.waits():  # for files, where another model is given them otherwise
            found = await self._successors.after(*decided)
        if found is None or isinstance(found, Successor):
            return found
        running.exhausted = found
        return None

    def _left(self, running: Running, attempt: Attempt, failure: Failure, most: Usd) -> Usd:
        """What the attempts until now, with this one that failed so, leave of what the request may cost."""
        failed = generation_failed(failure, self._seen(attempt), running.exchange, Views(self._price, self._now_us()))
        return Usd(most - (total(running.exchange.cost, failed.cost_usd) or Usd(0)))

    def _checked(self, running: Running, plan: Plan, answer: Fold) -> tuple[Corrected | None, Failure | None]:
        """What a whole answer calls for: the next attempt, or a failure, or neither: it is right."""
        try:
            problem = plan.problem(answer)
            if problem is None:
                return None, None
            if running.exchange.attempt >= MOST_ATTEMPTS:
                return None, Failure("validation_failed", f"The model gave no valid answer. {problem}")
            return Corrected(plan.again(answer, problem), problem), None
        except WireError as error:
            return None, Failure("validation_failed", str(error))
        except Exception:  # whatever a schema makes of the check, the exchange gets its end
            logger.exception("request %s failed at the check of its answer", running.submission.request_id)
            return None, BROKEN

    async def _again(self, running: Running, following: Following, before: Attempt) -> Attempt:
        """Record that the attempt before came to nothing, and that another follows; then wait as long as it says."""
        if isinstance(following, Successor) and following.continued:
            return await self._resume(running, following, before)
        plan, renderer = following.plan, before.renderer
        decoder = plan.speech.decoder(plan.call.streamed)
        held = isinstance(renderer, Held)
        happened = following.happened(self._seen(before), decoder.name, self._call_record(plan), HELD if held else None)
        appended = await self._record(running, happened, frames=before.rows, blobs=following.blobs)
        if isinstance(renderer, Held):
            renderer.again(before.fold)
        else:
            submission = running.submission
            renderer = dialect(submission.wire, submission.renderer).renderer(form(submission))
            renderer = renderer if plan.structure is None else Held(renderer)
        if isinstance(following, Successor):
            running.tried = following.tried
            running.outlet.prepare(ignored(plan) if following.step.to is None else told_elsewhere(plan))
            await self._pause(running, following.delay_s)
        return self._begun(running, plan, appended, decoder, renderer)

    async def _resume(self, running: Running, following: Successor, before: Attempt) -> Attempt:
        """The same where the client has what the attempt before gave, and the next goes on with that."""
        plan, seen, exchange = following.plan, self._seen(before), running.exchange
        decoder = plan.speech.decoder(plan.call.streamed)
        happened = following.happened(seen, decoder.name, self._call_record(plan), None)
        appended = await self._record(running, happened, frames=before.rows, blobs=following.blobs)
        if before.text:
            await running.outlet.release(before.settle(before.text))
        running.tried = following.tried
        await self._pause(running, following.delay_s)
        renderer = Continued.over(before.renderer, before.fold, used(seen, exchange))
        attempt = self._begun(running, plan, appended, decoder, renderer)
        attempt.follow(before)
        return attempt

    def _seen(self, attempt: Attempt) -> Seen:
        """What an attempt gave that is dropped, as far as it can be said."""
        try:
            return attempt.seen(self._monotonic())
        except WireError:
            return attempt.least(self._monotonic())

    @staticmethod
    async def _pause(running: Running, delay_s: float) -> None:
        """Wait before the next attempt, unless the request is ended meanwhile: then nothing will be called."""
        if not delay_s or running.verdict is not None:
            return
        with running.waits():
            await asyncio.sleep(delay_s)


def _so_far(running: Running, plan: Plan, attempt: Attempt, policy: Policy) -> Said | None:
    """What the client has of an answer that broke off, where another attempt may go on with it. Turns of sessions are
    read from single generations, so theirs are not."""
    if policy.continuation != "resume" or not plan.as_chat or running.submission.turn is not None:
        return None
    if plan.loop is not None or isinstance(attempt.renderer, Held):
        return None
    return said_so_far(attempt.fold, attempt.renderer, plan.body)
