"""Tools that a client runs by itself: each is recorded on the stream `tool-<name>`, before it starts and at its end."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable

from eventstore.catalogue import decode
from eventstore.catalogue.event import Event
from eventstore.catalogue.tool import ToolCompleted, ToolFailed, ToolProgress, ToolStarted
from eventstore.envelope import ANY_VERSION, RecordedEvent, StreamWrite
from eventstore.log import Log
from eventstore.reader import Reader
from gateway.tools.registry import unknown
from gateway.tools.runner import Job, Outcome, ToolRunner
from gateway.tools.values import Progress

PREFIX = "tool-"
PAGE = 1_000
LOOK_S = 0.25
"""How often a running tool's client is looked for."""
MOST_PROGRESS, LONGEST_WORD = 100, 500
LEFT = "The client left before the tool had ended."
ENDED = "The server ended before the tool had."


class DirectRuns:
    """`open` are the positions before the first event of each run that has not ended."""

    def __init__(self, log: Log, runner: ToolRunner) -> None:
        self._log, self._runner = log, runner
        self.open: dict[str, int] = {}

    async def run(self, job: Job, key: str, gone: Callable[[], bool]) -> Outcome:
        """Run it for a client that waits until it is `gone`. Raises `NotFound` for a tool that there is not."""
        offered = self._runner.registry.find(job.name)
        if offered is None:
            raise unknown(job.name)
        refused = self._runner.refusal(job)
        if refused is not None:
            await self._record(job, refused.event(job), admit=True)
            return refused
        self.open[job.id] = await self._log.head()
        try:
            arguments = self._runner.clean(job.arguments) if job.retained else None
            await self._record(
                job,
                ToolStarted(tool_name=job.name, call_id=job.id, kind=offered.tool.kind, key=key, arguments=arguments),
                admit=True,
            )
            outcome = await self._waited(job, gone)
            await self._record(job, outcome.event(job))
            return outcome
        finally:
            del self.open[job.id]

    async def _waited(self, job: Job, gone: Callable[[], bool]) -> Outcome:
        task = asyncio.create_task(self._runner.run(job, progress_of(job, lambda event: self._record(job, event))))
        try:
            while not task.done() and not gone():
                await asyncio.wait((task,), timeout=LOOK_S)
        except asyncio.CancelledError:
            await stopped(task)
            await self._record(job, Outcome(kind="interrupted", text=ENDED).event(job))
            raise
        if task.done():
            return task.result()
        await stopped(task)
        return Outcome(kind="cancelled", text=LEFT)

    async def _record(self, job: Job, event: Event, admit: bool = False) -> None:
        await self._log.append(StreamWrite(f"{PREFIX}{job.name}", ANY_VERSION, (event.new(),)), admit=admit)


def progress_of(job: Job, record: Callable[[ToolProgress], Awaitable[None]]) -> Progress:
    """What a tool calls to say how far it is. What it says after `MOST_PROGRESS` times is not recorded, nor what is no
    number."""
    left = MOST_PROGRESS

    async def tell(progress: float, total: float | None, message: str | None) -> None:
        nonlocal left
        left -= 1
        done = _number(progress)
        if left < 0 or done is None:
            return
        event = ToolProgress(
            tool_name=job.name,
            call_id=job.id,
            progress=done,
            total=_number(total),
            message=message[:LONGEST_WORD] if message and job.retained else None,
            request_id=job.request_id,
            attempt=job.attempt,
        )
        await record(event)

    return tell


def _number(said: float | None) -> float | None:
    """None for what JSON has no number for."""
    try:
        number = float(said) if said is not None else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


async def stopped(task: asyncio.Task[Outcome]) -> None:
    """Cancel a running tool, and wait until it has stopped what it can."""
    task.cancel()
    await asyncio.wait((task,))


async def interrupt(log: Log, reader: Reader, after: int) -> None:
    """After a crash: end every run that it left open."""
    for failed in left_open(reader, after):
        await log.append(StreamWrite(f"{PREFIX}{failed.tool_name}", ANY_VERSION, (failed.new(),)))


def left_open(reader: Reader, after: int) -> list[ToolFailed]:
    """The ends of the runs by clients that began behind this position and have none."""
    runs: list[RecordedEvent] = []
    while page := reader.read(after, PAGE, frames=False):
        runs += [e for e in page if isinstance(e, RecordedEvent) and e.stream.startswith(PREFIX)]
        after = page[-1].position
    return unfinished(runs)


def unfinished(recorded: Iterable[RecordedEvent]) -> list[ToolFailed]:
    """The ends of the tools that these events began and did not end. Pure."""
    begun: dict[tuple[str, int | None], ToolFailed] = {}
    for each in recorded:
        if not each.type.startswith("tool_"):
            continue
        event = decode(each)
        if isinstance(event, ToolStarted):
            begun[event.call_id, event.attempt] = ToolFailed(
                tool_name=event.tool_name,
                call_id=event.call_id,
                kind="interrupted",
                message=ENDED,
                request_id=event.request_id,
                attempt=event.attempt,
            )
        elif isinstance(event, ToolCompleted | ToolFailed):
            begun.pop((event.call_id, event.attempt), None)
    return list(begun.values())
