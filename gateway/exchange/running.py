"""An exchange while it runs: the shell's own notes, which die with the process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gateway.exchange.inputs import Exhausted, Failure, Submission
from gateway.exchange.outlet import Outlet
from gateway.exchange.resilience import NOTHING
from gateway.exchange.state import Exchange


@dataclass(frozen=True, slots=True)
class Leave:
    """The client left, or its answer has no reader any more: nobody is told."""

    reason: str


@dataclass(frozen=True, slots=True)
class Halt:
    """The gateway itself ends."""

    reason: str


Verdict = Failure | Leave | Halt
"""Why an attempt ended without a whole answer."""


def final(verdict: Verdict | None) -> bool:
    """Whether it ends the request, and not only the attempt: somebody left, stopped it, or stops the server."""
    return verdict is not None and type(verdict) is not Failure


class Running:
    """`waiting` is true while the owner task waits for something other than a commit: an upstream, files, tools, a
    pause. Only then can a verdict cut it short; so the owner looks at `verdict` before it waits, and after each commit.

    `position` is before its first event; `own_s` is our own time between reads; `content_type` is that of a whole
    answer. `tried` counts the attempts that failed, `exhausted` says why none follows the last; by `deadline_at` all
    must be over. Of the attempt under way, `called_at` and `heard_at` are when its call was made and when anything last
    came, and `whole` says whether all of its answer did. Times are in monotonic seconds.
    """

    __slots__ = (
        "called_at",
        "content_type",
        "deadline_at",
        "exchange",
        "exhausted",
        "heard_at",
        "outlet",
        "own_s",
        "position",
        "started_at",
        "streamed_call",
        "submission",
        "task",
        "tried",
        "verdict",
        "waiting",
        "whole",
    )

    def __init__(
        self, submission: Submission, outlet: Outlet, task: asyncio.Task[object], now: float, position: int
    ) -> None:
        self.submission, self.outlet, self.task, self.started_at = submission, outlet, task, now
        self.exchange = Exchange(submission.request_id)
        self.verdict: Verdict | None = None
        self.waiting = False
        self.own_s = 0.0
        self.position = position
        self.streamed_call = False
        self.content_type = "application/json"
        self.tried = NOTHING
        self.exhausted: Exhausted | None = None
        self.deadline_at: float | None = None
        self.called_at: float | None = None
        self.heard_at: float | None = None
        self.whole: Callable[[], bool] = bool
        self.go(submission)

    def go(self, submission: Submission) -> None:
        """Serve it as this: where it goes and what may follow are known now."""
        self.submission = submission
        deadline_s = submission.policy and submission.policy.deadline_s
        self.deadline_at = self.started_at + deadline_s if deadline_s else None

    def end(self, verdict: Verdict) -> None:
        """Ask the owner to end the attempt. The first verdict counts, but one that ends the request counts for more
        than one that ends the attempt, which another may follow."""
        first = self.verdict is None
        if first or (final(verdict) and not final(self.verdict)):
            self.verdict = verdict
        if first and self.waiting:
            self.task.cancel()

    @contextmanager
    def waits(self) -> Iterator[None]:
        """What the owner awaits inside can be cut short by a verdict; it goes on behind the block, and looks."""
        self.waiting = True
        try:
            yield
        except asyncio.CancelledError:
            self.interrupted()
        finally:
            self.waiting = False

    def interrupted(self) -> None:
        """The owner's wait was cancelled: for its verdict, or, where there is none, by whoever stops the process."""
        self.task.uncancel()
        if self.verdict is None:
            self.verdict = Halt("shutdown")


def running_of(request_id: str, open_exchanges: Iterable[Running]) -> Running | None:
    """The one of these that serves this request, if any does."""
    return next((running for running in open_exchanges if running.submission.request_id == request_id), None)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long an upstream may take, in seconds. `first_byte_whole_s` is for answers that are not streamed: their first
    byte is their last. `end_s` is for the end of a stream that has said all of its answer: usage can come behind that,
    but some servers send neither `[DONE]` nor an end."""

    first_byte_s: float = 120
    first_byte_whole_s: float = 600
    idle_s: float = 60
    end_s: float = 5
    total_s: float = 3600


def overdue(running: Running, limits: Limits, now: float) -> Failure | None:
    """The timeout that has run out for an exchange, if one has. Pure."""
    called, phase = running.called_at, running.exchange.phase
    if called is None and phase != "settled" and not (running.waiting and phase in ("new", "generating")):
        return None  # nothing is called, no tools run, and no files are made ready
    if running.deadline_at is not None and now > running.deadline_at:
        return Failure("total_timeout", "the deadline of the request has passed")
    if called is None:  # each tool has a timeout of its own
        return None
    if now - called > limits.total_s:
        return Failure("total_timeout", f"the provider's answer took longer than {limits.total_s:g} s")
    if running.heard_at is None:
        first = limits.first_byte_s if running.streamed_call else limits.first_byte_whole_s
        if now - called > first:
            return Failure("first_byte_timeout", f"the provider did not begin to answer in {first:g} s")
    elif now - running.heard_at > limits.idle_s:
        return Failure("idle_timeout", f"the provider was silent for {limits.idle_s:g} s in the middle of its answer")
    elif now - running.heard_at > limits.end_s and running.whole():
        return Failure("idle_timeout", f"the provider was silent for {limits.end_s:g} s behind its answer")
    return None


class Watch:
    """One ticker for all exchanges: who left, what is overdue, which idle stream wants a ping. Cheaper than a timer
    each, and none is ever forgotten."""

    PERIOD_S = 0.25

    def __init__(self, open_exchanges: set[Running], limits: Limits, monotonic: Callable[[], float]) -> None:
        self._open, self._limits, self._monotonic = open_exchanges, limits, monotonic

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            await asyncio.sleep(self.PERIOD_S)
            now = self._monotonic()
            for running in list(self._open):
                self.look(running, now)

    def look(self, running: Running, now: float) -> None:
        """One exchange, once."""
        if final(running.verdict):
            return
        if running.outlet.gone():
            running.end(Leave("client_left"))
        elif running.verdict is not None:
            return
        elif (failure := overdue(running, self._limits, now)) is not None:
            running.end(failure)
        else:
            running.outlet.tick(now)
