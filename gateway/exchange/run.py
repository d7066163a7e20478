"""The one shell: it runs the loop, appends, awaits. What is recorded is `decide`'s opinion, what is sent `render`'s.

Commit, then release: the log holds the request and the intent before the upstream is called, each frame before its
bytes reach the client, and the terminal event before the answer's last byte.

It is one class in parts, each in a file, on top of the one before: `recording` decides and appends, `calls` makes one
attempt, `race` makes a call beside a slow one, `sequel` begins what follows an attempt, `ending` ends the exchange, and
here is the loop over them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from random import random
from typing import Any

from eventstore.errors import LogBusy, LogError
from eventstore.log import Log
from gateway.circuits import Circuits
from gateway.errors import DeadlinePassed, GatewayError, not_now
from gateway.exchange.attempt import Attempt
from gateway.exchange.calls import BROKEN, CAP_REACHED, announced
from gateway.exchange.decide import Price
from gateway.exchange.ending import Endings, unpriced
from gateway.exchange.files import Files
from gateway.exchange.hedge import Beside
from gateway.exchange.inputs import Failure, Refused, RoundBegun, Submission, Submitted
from gateway.exchange.outlet import Outlet
from gateway.exchange.plan import Plan, Planner
from gateway.exchange.policy import Hedge
from gateway.exchange.recover import broken_off
from gateway.exchange.render import JSON_HEADERS, dialect, form
from gateway.exchange.running import Running, Verdict, final
from gateway.exchange.successor import Successors, elsewhere
from gateway.exchange.telling import error_body, tell_broken
from gateway.exchange.tool_round import ToolRounds
from gateway.exchange.transcribe import Transcriber
from gateway.media.prepare import Media
from gateway.redaction import Redactor
from gateway.tools.loop import Looping
from gateway.tools.runner import ToolRunner
from gateway.upstreams.natives import NATIVES
from gateway.upstreams.upstream import Provider, Speech, Upstream
from gateway.virtual_models import VirtualModels
from gateway.wire.held import HELD, Held
from gateway.wire.rounds import Rounds
from gateway.wire.tooltext.models import ToolModes
from gateway.wire.values import Unsupported, WireError

logger = logging.getLogger(__name__)

ASIDE_BYTES = 1 << 20
"""Longer requests are put into their provider's words in a thread."""


class Exchanges(Endings):
    """Runs exchanges. `open` are those that have no terminal event yet; the first that was left without one begins
    behind the position `unended`.

    `listed`: provider -> models, as last discovered; `discover` asks all of them; `now_us`: microseconds since 1970
    UTC; `monotonic`: seconds; `transcribe`: the model that makes text of sound in chats, None where providers get it.
    """

    def __init__(
        self,
        *,
        log: Log,
        providers: Mapping[str, Provider],
        upstreams: Mapping[str, Upstream],
        price: Price,
        redactor: Redactor,
        default_provider: str | None,
        listed: Callable[[], Mapping[str, Collection[str]]],
        discover: Callable[[], Awaitable[object]],
        now_us: Callable[[], int],
        monotonic: Callable[[], float],
        debug: bool = False,
        tools: ToolModes = ToolModes(),  # noqa: B008  a value, that nobody can change
        media: Media | None = None,
        natives: Mapping[tuple[str, str], Speech] = NATIVES,
        transcribe: str | None = None,
        draw: Callable[[], float] = random,
        runner: ToolRunner | None = None,
        tool_rounds: int = 10,
        circuits: Circuits | None = None,
        virtual: VirtualModels | None = None,
    ) -> None:
        super().__init__(log, price, redactor, now_us, monotonic)
        self._debug, self._discover = debug, discover
        looping = None if runner is None else Looping(runner.registry, tool_rounds)
        self._rounds = None if runner is None else ToolRounds(runner, self._record)
        self._planner = Planner(providers, upstreams, redactor, default_provider, listed, natives, tools, looping)
        self.circuits, self.virtual = circuits, virtual
        self.open: set[Running] = set()
        self.unended: int | None = None
        heard = None if transcribe is None else Transcriber(transcribe, redactor, log, self.run, self.open, now_us)
        self._files = Files(self._planner, media, redactor, heard)
        self._successors = Successors(self._planner, self._files, draw, self._check_cap, circuits)
        self._idle = asyncio.Event()
        self._idle.set()

    def enter(self, running: Running) -> None:
        """From now on it is open: an orderly stop waits for it."""
        self.open.add(running)
        self._idle.clear()

    def leave(self, running: Running) -> None:
        """It has its end. Where it has none, since its task was cancelled from outside, or died of what is no
        `Exception`, the next start must find it."""
        exchange = running.exchange
        if exchange.phase != "ended" and (exchange.version or running.task.cancelling()):
            self.unended = min(running.position, running.position if self.unended is None else self.unended)
        self.open.discard(running)
        if not self.open:
            self._idle.set()

    async def settled(self, timeout_s: float) -> bool:
        """Wait until no exchange is open; False where some still are."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def run(self, submission: Submission, outlet: Outlet) -> None:
        """Serve a request to its one terminal event. The answer goes to `outlet`.

        Raises `LogUnavailable` where the log can write no more: then the process must stop, and recovery ends it; and
        `WrongExpectedVersion` where what is recorded beside its first event came too late: then nothing is.
        """
        task = asyncio.current_task()
        assert task is not None
        running = Running(submission, outlet, task, self._monotonic(), await self._log.head())
        outlet.prepare({"x-request-id": submission.request_id})
        self.enter(running)
        try:
            plan = await (self._planned(running) if self.virtual is None else self._routed(running, self.virtual))
            await self._serve(running, plan)
        except GatewayError as error:
            await self._refuse(running, error)
        except LogError:
            raise
        except Exception:
            if running.exchange.phase == "ended":
                raise
            logger.exception("request %s failed", submission.request_id)
            await self._broke(running)
        finally:
            self.leave(running)
            self._files.forget(submission.request_id)

    async def _routed(self, running: Running, virtual: VirtualModels) -> Plan:
        """Where a virtual model leads. Raises `GatewayError`."""
        routing = await virtual.begin(running.submission, self.open)
        if routing is None:
            return await self._planned(running)
        while True:
            running.go(routing.submission())
            try:
                return await self._planned(running)
            except DeadlinePassed:
                raise
            except GatewayError as error:
                routing.refused(error)

    async def _planned(self, running: Running) -> Plan:
        """Raises `GatewayError`."""
        submission = running.submission
        if self._planner.unlisted(submission) and running.verdict is None:
            with running.waits():
                await self._discover()
        if self._files.asked(submission):
            running.submission = submission = await self._prepared(running, submission)
        if isinstance(running.verdict, Failure) and not final(running.verdict):
            raise DeadlinePassed(running.verdict.message)
        large = submission.body_length > ASIDE_BYTES
        plan = await asyncio.to_thread(self._planner.plan, submission) if large else self._planner.plan(submission)
        if submission.most_cost is not None:
            self._check_cap(plan, submission, submission.most_cost)
        return plan

    async def _broke(self, running: Running) -> None:
        """Our own code failed in a way that nobody foresaw: it gets its end all the same, as after a crash."""
        if not running.exchange.version:
            await self._refuse(running, GatewayError(BROKEN.message, code=BROKEN.kind))
            return
        happened = await broken_off(self._log, running.exchange, BROKEN.kind)
        await self._record(running, happened, price=unpriced)
        await tell_broken(running)

    async def _prepared(self, running: Running, submission: Submission) -> Submission:
        """With its files made ready, unless it is ended meanwhile: then nothing is called. Raises `GatewayError`."""
        if running.verdict is not None:
            return submission
        running.waiting = True
        try:
            return await self._files.prepared(submission)
        except asyncio.CancelledError:
            if running.verdict is None:
                raise
            running.task.uncancel()
            return submission
        finally:
            running.waiting = False

    async def refuse(self, submission: Submission, outlet: Outlet, error: GatewayError) -> None:
        """Record and answer a request that was refused at the door: unreadable, or unwelcome."""
        task = asyncio.current_task()
        assert task is not None
        outlet.prepare({"x-request-id": submission.request_id})
        await self._refuse(Running(submission, outlet, task, self._monotonic(), 0), error)

    async def _serve(self, running: Running, plan: Plan) -> None:
        """Record the request; then make attempts until one of them is the answer, or nothing more may be tried."""
        policy = running.submission.policy
        if self.circuits is not None:
            self.circuits.bar(plan, policy, self._now_us())
        hedge = None if policy is None else policy.hedge
        beside = None if hedge is None else await self._call_beside(running, plan, hedge)
        attempt = await self._admitted(running, plan)
        barred: Failure | None = None
        if self.circuits is not None and running.verdict is None:
            barred = await self.circuits.called(plan, policy, self._now_us())
        verdict: Verdict | None = barred
        if barred is not None:
            attempt.called_at = self._monotonic()
        elif beside is None:
            verdict = await self._attempt(running, plan, attempt)
        else:
            plan, attempt, verdict = await self._hedged(running, plan, attempt, beside)
        while True:
            if verdict is None and plan.loop is not None and (calls := plan.loop.calls(attempt.fold)):
                plan, attempt, verdict = await self._round(running, plan, attempt, calls)
                continue
            if self.circuits is not None and (verdict is None or isinstance(verdict, Failure)):
                await self.circuits.ended(plan, verdict, self._now_us())
            following, verdict = await self._judged(running, plan, attempt, verdict)
            if following is not None:
                plan, attempt = following.plan, await self._again(running, following, attempt)
            elif not self._called_all_the_same(running, verdict, barred):
                break
            verdict = await self._attempt(running, plan, attempt)
        await self._settle(running, attempt, verdict)

    async def _call_beside(self, running: Running, plan: Plan, hedge: Hedge) -> Beside | None:
        """The call that is made beside the first where that is slow; None where there is none, or the request is ended
        meanwhile. Raises `GatewayError`."""
        submission = running.submission
        there = await self._prepared(running, elsewhere(submission, hedge.model, plan))
        return None if running.verdict is not None else self._beside(submission, there, hedge, plan)

    async def _admitted(self, running: Running, plan: Plan) -> Attempt:
        """The first attempt, once the request and its call are recorded. Raises `GatewayError` where there is no room
        for new ones."""
        submission, call = running.submission, plan.call
        decoder = plan.speech.decoder(call.streamed)
        held = HELD if plan.structure is not None else None
        submitted = Submitted(submission, plan.route, call, decoder.name, *self._call_record(plan), held)
        try:
            appended = await self._record(running, submitted, admit=True)
        except LogBusy as busy:
            running.submission = replace(submission, recorded=None, blobs=())  # a refusal for want of room is short
            raise not_now(busy) from busy
        running.outlet.prepare({"x-abstractcore-position": str(appended.last)})
        running.outlet.prepare(announced(plan))
        spoken, answer = dialect(submission.wire, submission.renderer), form(submission)
        renderer, running.content_type = spoken.renderer(answer), spoken.content_type(answer)
        return self._begun(running, plan, appended, decoder, renderer if held is None else Held(renderer))

    def _called_all_the_same(self, running: Running, verdict: Verdict | None, barred: Failure | None) -> bool:
        """Whether a provider that is left alone is called after all, where nobody else can take the request."""
        if barred is None or verdict is not barred or self.circuits is None or self.circuits.refusing:
            return False
        running.exhausted = None
        return True

    async def _round(
        self, running: Running, plan: Plan, attempt: Attempt, calls: Sequence[Mapping[str, Any]]
    ) -> tuple[Plan, Attempt, Verdict | None]:
        """Run the tools that a whole answer calls, and then the attempt that has their results."""
        assert self._rounds is not None
        results = await self._rounds.run(running, attempt, calls, self._monotonic())
        if results is None:
            return plan, attempt, running.verdict
        most, cost = running.submission.most_cost, running.exchange.cost
        if most is not None and cost is not None and cost >= most:
            return plan, attempt, CAP_REACHED
        try:
            plan = plan.continued(attempt.fold, results)
        except (WireError, Unsupported) as error:
            return plan, attempt, Failure("bad_response", str(error))
        decoder, renderer = plan.speech.decoder(plan.call.streamed), attempt.renderer
        appended = await self._record(running, RoundBegun(plan.call, decoder.name, *self._call_record(plan)))
        if isinstance(renderer, Rounds):
            renderer.ran(attempt.fold)
        following = self._begun(running, plan, appended, decoder, renderer)
        following.follow(attempt)
        return plan, following, await self._attempt(running, plan, following)

    async def _refuse(self, running: Running, error: GatewayError) -> None:
        """Record and answer. On a full disk, and while another process keeps us from the log, it is only answered: the
        room that is left belongs to what runs."""
        value = error.error()
        if self._debug and error.details is not None:
            value["details"] = error.details
        body = error_body(running, error.status, value)
        refused = Refused(running.submission, error, value, sha256(body).hexdigest(), self._now_us())
        headers = {**JSON_HEADERS, **error.headers}
        if not (self._log.full or self._log.held):
            headers["x-abstractcore-position"] = str((await self._record(running, refused)).last)
        running.outlet.answer(error.status, headers, body)
