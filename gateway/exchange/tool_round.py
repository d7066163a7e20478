"""One round of tools within an exchange: recorded before any runs, run at once, each recorded when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol

from eventstore.catalogue.event import Event
from eventstore.catalogue.tool import ToolCompleted, ToolFailed, ToolStarted
from eventstore.envelope import Appended, NewFrames
from gateway.exchange.attempt import Attempt
from gateway.exchange.inputs import Failure, Input, RoundEnded, ToolTold
from gateway.exchange.running import Halt, Running, Verdict
from gateway.tools.execute import ENDED, LEFT, progress_of
from gateway.tools.runner import Job, Outcome, ToolRunner


class Record(Protocol):
    """Records what happened to an exchange (`Recording._record`)."""

    def __call__(self, running: Running, happened: Input, frames: Sequence[NewFrames] = ...) -> Awaitable[Appended]: ...


Told = tuple[int, Event, Outcome | None]
"""A job's place, what is recorded of it, and how it ended, if it did."""


class ToolRounds:
    """Runs the tools of exchanges, with `runner`."""

    def __init__(self, runner: ToolRunner, record: Record) -> None:
        self._runner, self._record = runner, record

    async def run(
        self, running: Running, attempt: Attempt, calls: Sequence[Mapping[str, Any]], now: float
    ) -> list[tuple[str, str]] | None:
        """The results of these calls of a whole answer, by their ids; None where `running.verdict` ends the exchange.
        What the client has not yet got of the answer's text is released. Raises `LogError`."""
        jobs = [_job(running, call) for call in calls]
        outcomes = {place: refused for place, job in enumerate(jobs) if (refused := self._runner.refusal(job))}
        begin = [self._begin(job, outcomes.get(place)) for place, job in enumerate(jobs)]
        await self._record(running, RoundEnded(attempt.seen(now), tuple(begin)), frames=attempt.rows)
        text, attempt.text, attempt.rows = attempt.text, b"", []
        if text:
            await running.outlet.release(attempt.settle(text))
        await self._run(running, jobs, outcomes)
        if running.verdict is not None:
            await self._give_up(running, [job for place, job in enumerate(jobs) if place not in outcomes])
            return None
        return [(job.id, _shown(outcomes[place])) for place, job in enumerate(jobs)]

    def _begin(self, job: Job, refused: Outcome | None) -> ToolStarted | ToolFailed | ToolCompleted:
        offered = self._runner.registry.find(job.name)
        if refused is not None or offered is None:
            return (refused or Outcome(kind="removed", text="")).event(job)
        return ToolStarted(
            tool_name=job.name,
            call_id=job.id,
            kind=offered.tool.kind,
            request_id=job.request_id,
            attempt=job.attempt,
        )

    async def _run(self, running: Running, jobs: Sequence[Job], outcomes: dict[int, Outcome]) -> None:
        """Fill in the outcomes that are missing, until all are there, or the exchange is to end."""
        told: asyncio.Queue[Told] = asyncio.Queue()
        tasks = [
            asyncio.create_task(self._one(place, job, told)) for place, job in enumerate(jobs) if place not in outcomes
        ]
        try:
            while len(outcomes) < len(jobs) and running.verdict is None:
                running.waiting = True
                next_told = await told.get()
                running.waiting = False
                await self._hear(running, outcomes, next_told)
        except asyncio.CancelledError:
            running.waiting = False
            running.interrupted()
        finally:
            running.waiting = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        while not told.empty():  # a tool that ended just before its exchange has its own end
            await self._hear(running, outcomes, told.get_nowait())

    async def _hear(self, running: Running, outcomes: dict[int, Outcome], told: Told) -> None:
        place, event, outcome = told
        await self._record(running, ToolTold(event))
        if outcome is not None:
            outcomes[place] = outcome

    async def _one(self, place: int, job: Job, told: asyncio.Queue[Told]) -> None:
        outcome = await self._runner.run(job, progress_of(job, lambda event: told.put((place, event, None))))
        await told.put((place, outcome.event(job), outcome))

    async def _give_up(self, running: Running, jobs: Sequence[Job]) -> None:
        """Record the end of tools that were stopped with their exchange."""
        outcome = _stopped_by(running.verdict)
        for job in jobs:
            await self._record(running, ToolTold(outcome.event(job)))


def _stopped_by(verdict: Verdict | None) -> Outcome:
    """How a tool ended whose exchange did."""
    if isinstance(verdict, Halt):
        return Outcome(kind="interrupted", text=ENDED)
    return Outcome(kind="cancelled", text=verdict.message if isinstance(verdict, Failure) else LEFT)


def _job(running: Running, call: Mapping[str, Any]) -> Job:
    function = call["function"]
    return Job(
        id=call["id"],
        name=function["name"],
        arguments=function["arguments"],
        request_id=running.submission.request_id,
        attempt=running.exchange.attempt,
        retained=running.submission.retained,
    )


def _shown(outcome: Outcome) -> str:
    """What the model is told."""
    return outcome.text if outcome.kind is None else f"Error: {outcome.text}"
