"""The attempt that follows another, planned: after an answer that was of no use, or a failure that nobody saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, replace

from eventstore.catalogue.values import Usd
from eventstore.value import value
from gateway.circuits import Circuits
from gateway.errors import GatewayError
from gateway.exchange.continuation import Said, resumed
from gateway.exchange.files import Files
from gateway.exchange.inputs import Broken, Exhausted, Failure, FileGiven, Seen, Submission, Unfit
from gateway.exchange.plan import Plan, Planner
from gateway.exchange.policy import Policy
from gateway.exchange.resilience import NOTHING, Situation, Step, Tried, next_step
from gateway.wire.held import HELD


@value
class Corrected:
    """After an answer that is not what was asked for: the same model, told what was wrong."""

    plan: Plan
    problem: str
    delay_s: float = 0.0
    blobs: tuple[bytes, ...] = ()

    def happened(self, seen: Seen, decoder: str, call_record: tuple[str, str, int], held: str | None) -> Unfit:
        """What is recorded of it."""
        return Unfit(seen, self.problem, self.plan.call, decoder, *call_record)


@value
class Successor:
    """After a failure. `tried` counts it in; `skipped` are the models that could not take it, and why. `continued`: it
    goes on with what the client has of the answer. `files` are those that another model is given otherwise, with their
    `blobs`."""

    plan: Plan
    failure: Failure
    step: Step
    tried: Tried
    callers_url: bool
    skipped: dict[str, str] = field(default_factory=dict)
    continued: bool = False
    files: tuple[FileGiven, ...] = ()
    blobs: tuple[bytes, ...] = ()

    @property
    def delay_s(self) -> float:
        return self.step.delay_s

    def happened(self, seen: Seen, decoder: str, call_record: tuple[str, str, int], held: str | None) -> Broken:
        """What is recorded of it."""
        return Broken(
            self.failure,
            seen,
            self.plan.route,
            self.step.reason,
            self.step.inputs,
            self.step.delay_s,
            self.step.to is not None,
            self.skipped,
            self.callers_url,
            HELD if held or self.plan.structure is not None else None,
            self.plan.call,
            decoder,
            *call_record,
            self.continued,
            self.files,
        )


Following = Corrected | Successor


class Successors:
    """Plans what follows failures. `draw` gives numbers from [0, 1); `affordable` raises `GatewayError` where a plan's
    prompt alone costs more than so much, or has no price."""

    def __init__(
        self,
        planner: Planner,
        files: Files,
        draw: Callable[[], float],
        affordable: Callable[[Plan, Submission, Usd], None],
        circuits: Circuits | None = None,
    ) -> None:
        self._planner, self._files, self._draw = planner, files, draw
        self._affordable, self._circuits = affordable, circuits

    async def after(
        self,
        failure: Failure,
        submission: Submission,
        plan: Plan,
        tried: Tried,
        elapsed_s: float,
        now_us: int,
        said: Said | None = None,
        left: Usd | None = None,
    ) -> Successor | Exhausted:
        """The attempt after this failure, or that it stands. `said`: what the client has of the answer; `left`: what
        another model may cost, None where that is as much as it likes."""
        if submission.policy is None:
            return Exhausted(None)
        left_alone = self._circuits is not None and self._circuits.open(plan, now_us)
        situation = Situation(
            failure,
            submission.policy,
            tried,
            round(elapsed_s, 3),
            self._draw(),
            now_us,
            shown=said is not None,
            left_alone=left_alone,
        )
        step = next_step(situation)
        if step is None:
            return Exhausted(None if tried == NOTHING else situation.inputs())
        if step.to is None:
            return _again(failure, plan, step, tried, said)
        found = await self._fallen(failure, submission, plan, step, step.to, said, left)
        if left_alone and isinstance(found, Exhausted):  # nobody else can take it: it is called all the same
            step = next_step(replace(situation, left_alone=False))
            if step is not None and step.to is None:
                return _again(failure, plan, step, tried, said)
        return found

    async def _fallen(
        self,
        failure: Failure,
        submission: Submission,
        plan: Plan,
        step: Step,
        first: int,
        said: Said | None,
        left: Usd | None,
    ) -> Successor | Exhausted:
        """At the first of the models to fall back on, from this one on, that can take the request."""
        assert submission.policy is not None
        skipped: dict[str, str] = {}
        for number, name in enumerate(submission.policy.fallback[first:], first):
            there = elsewhere(submission, name, plan)
            try:
                there = _gone_on(await self._files.prepared(there), plan, said)
                planned = self._planner.plan(there)
                if left is not None:
                    self._affordable(planned, there, left)
            except GatewayError as error:
                skipped[name] = error.error()["code"] or type(error).__name__
            else:
                if (why := await self._unfit(planned, submission.policy, step.inputs["now_us"], said)) is not None:
                    skipped[name] = why
                    continue
                tried, more = Tried(0, number + 1), given_otherwise(there, submission)
                return Successor(planned, failure, step, tried, planned.callers_url, skipped, said is not None, *more)
        return Exhausted(step.inputs, skipped)

    async def _unfit(self, plan: Plan, policy: Policy, now_us: int, said: Said | None) -> str | None:
        """Why it is no use to go there. Where it is time to see how its provider is, this is the one that goes."""
        if said is not None and not plan.as_chat:
            return "cannot_resume"
        barred = None if self._circuits is None else await self._circuits.called(plan, policy, now_us)
        return None if barred is None else "circuit_open"


def _again(failure: Failure, plan: Plan, step: Step, tried: Tried, said: Said | None) -> Successor:
    """A retry where it was."""
    retried = Tried(tried.retried + 1, tried.fallen)
    again = plan if said is None else plan.resumed(said.now)
    return Successor(again, failure, step, retried, plan.callers_url, continued=said is not None)


def elsewhere(submission: Submission, name: str, plan: Plan) -> Submission:
    """The request at another model, its files not yet ready. The caller's key and URL stay for the provider that it
    named, whoever was called between."""
    return replace(submission, model=name, virtual=None, lent_to=plan.lent_to, chat=None, files=(), blobs=())


def given_otherwise(there: Submission, submission: Submission) -> tuple[tuple[FileGiven, ...], tuple[bytes, ...]]:
    """The files that a request has at another model, and were not recorded with it, and their blobs."""
    files = tuple(file for file in there.files if file not in submission.files)
    return files, there.blobs if files else ()


def _gone_on(there: Submission, plan: Plan, said: Said | None) -> Submission:
    """The request at another model, going on where this plan was: behind what the client has of the answer, or behind
    the rounds of tools that are over."""
    if said is not None:
        return resumed(there, plan.body, said)
    if plan.loop is None or not plan.loop.done:
        return there
    body = plan.body
    if there.chat is not None:
        messages = there.chat["messages"]
        body = {**body, "messages": [*messages, *body["messages"][len(messages) :]]}
    return replace(there, chat=body, rounds=plan.loop.done)
