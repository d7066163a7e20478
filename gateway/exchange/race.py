"""The shell of two racing calls: what is recorded of them, and whose answer is read on."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace

from eventstore.catalogue.values import milliseconds
from gateway.circuits import Circuits
from gateway.exchange.attempt import Attempt
from gateway.exchange.calls import Calls, told_elsewhere
from gateway.exchange.decide_hedge import HEDGE_LOST
from gateway.exchange.hedge import Beside, Racer, ahead_of
from gateway.exchange.inputs import Failure, HedgeBegun, HedgeLost, HedgeWon, Submission
from gateway.exchange.plan import Plan, Planner
from gateway.exchange.policy import Hedge
from gateway.exchange.running import Running, Verdict
from gateway.exchange.successor import given_otherwise
from gateway.wire.held import HELD, Held


class Races(Calls):
    """The part of the shell that makes a second call beside one that is slow."""

    _planner: Planner
    circuits: Circuits | None

    def _beside(self, submission: Submission, there: Submission, hedge: Hedge, first: Plan) -> Beside | None:
        """The second call, which has the request as it is `there`; None where its provider is left alone for now, or
        the request may not cost both prompts. Raises `GatewayError` where it cannot take the request."""
        planned = self._planner.plan(there)
        if there.most_cost is not None:
            self._check_cap(planned, there, there.most_cost)
            if (self._prompt_cost(first) or 0) + (self._prompt_cost(planned) or 0) > there.most_cost:
                return None
        if self.circuits is not None and self.circuits.open(planned, self._now_us()):
            return None
        return Beside(planned, hedge.after_ms, planned.callers_url, *given_otherwise(there, submission))

    async def _hedged(
        self, running: Running, plan: Plan, attempt: Attempt, beside: Beside
    ) -> tuple[Plan, Attempt, Verdict | None]:
        """Make the first attempt; the second too, where the first brings nothing for a while. Gives the one whose
        answer was read, and how that ended. Raises `LogError`."""
        first, second = Racer(plan, self._monotonic()), None
        running.streamed_call = plan.call.streamed
        attempt.called_at = running.called_at = first.called_at
        ahead = first
        try:
            if await _waited(running, {first.task}, beside.after_ms / 1000) and not first.task.done():
                second = await self._second(running, beside)
                await _waited(running, {first.task, second.task})
                if running.verdict is None and ahead_of(first, second) is second:
                    attempt, ahead = await self._won(running, attempt, first, second), second
                else:
                    await self._lost(running, attempt, first, second)
            return ahead.plan, attempt, await self._attempt(running, ahead.plan, attempt, ahead)
        finally:
            running.called_at = None
            for racer in (first, second):
                if racer is not None:
                    await racer.stop()

    async def _second(self, running: Running, beside: Beside) -> Racer:
        """Record that the second call is made, then make it."""
        plan = beside.plan
        happened = HedgeBegun(
            plan.route, beside.after_ms, beside.callers_url, plan.call, *self._call_record(plan), beside.files
        )
        await self._record(running, happened, blobs=beside.blobs)
        return Racer(plan, self._monotonic())

    async def _won(self, running: Running, before: Attempt, first: Racer, second: Racer) -> Attempt:
        """The second takes the place of the first, which was slower, or failed."""
        failure = await self._failure(running, before, first) if first.failed else HEDGE_LOST
        plan, renderer = second.plan, before.renderer
        if plan.structure is not None and not isinstance(renderer, Held):
            renderer = Held(renderer)
        decoder, (url, digest, _) = plan.speech.decoder(plan.call.streamed), self._call_record(plan)
        held = HELD if isinstance(renderer, Held) else None
        seen = before.least(self._monotonic())
        appended = await self._record(running, HedgeWon(failure, seen, plan.call, decoder.name, url, digest, held))
        attempt = self._begun(running, plan, appended, decoder, renderer)
        attempt.based_at = self._monotonic()
        running.outlet.prepare(told_elsewhere(plan))
        return attempt

    async def _lost(self, running: Running, attempt: Attempt, first: Racer, second: Racer) -> None:
        """The first is read on, or the request ended; the second was slower, or failed."""
        failure, used = HEDGE_LOST, True
        if running.verdict is not None:
            failure = replace(_failure(running.verdict), message="the request ended")
        elif second.failed and not first.won:
            failure, used = await self._failure(running, attempt, second), False
        await self._record(running, HedgeLost(failure, used, milliseconds(self._monotonic() - second.called_at)))

    async def _failure(self, running: Running, attempt: Attempt, failed: Racer) -> Failure:
        """How a call failed that brought nothing; its circuit is told."""
        verdict = await self._attempt(running, failed.plan, attempt, failed)
        if self.circuits is not None and isinstance(verdict, Failure):
            await self.circuits.ended(failed.plan, verdict, self._now_us())
        running.called_at = attempt.called_at
        return _failure(verdict or HEDGE_LOST)


def _failure(verdict: Verdict) -> Failure:
    """What becomes of a call whose request ended so."""
    return verdict if isinstance(verdict, Failure) else Failure(verdict.reason, "the request ended", "gateway")


async def _waited(running: Running, tasks: Collection[asyncio.Task[object]], timeout_s: float | None = None) -> bool:
    """Wait until one is done, or the time is over; False where the exchange is to end."""
    if running.verdict is not None:  # it came while a commit was waited for, and will not come again
        return False
    with running.waits():
        await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    return running.verdict is None
