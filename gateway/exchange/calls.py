"""One attempt: its upstream is called, and what comes is recorded, and released, until it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import lru_cache, partial
from hashlib import sha256
from urllib.parse import quote

from eventstore.catalogue.values import Usage, Usd
from eventstore.envelope import Appended
from eventstore.errors import LogError
from eventstore.frames import FrameRun
from eventstore.log import Log
from gateway.errors import CostCapped, InvalidRequest
from gateway.exchange.attempt import Attempt
from gateway.exchange.capped import Capped, CapReached
from gateway.exchange.decide import Price
from gateway.exchange.decide_attempt import estimated
from gateway.exchange.estimate import estimate, prompt_bytes
from gateway.exchange.failures import failure_of_call, failure_of_error
from gateway.exchange.hedge import Racer
from gateway.exchange.inputs import Failure, Stop, Submission
from gateway.exchange.outlet import LONGEST_HEADER, in_header
from gateway.exchange.plan import Plan
from gateway.exchange.recording import Recording
from gateway.exchange.running import Halt, Running, Verdict
from gateway.redaction import Redactor
from gateway.upstreams.http import read_error_body
from gateway.upstreams.upstream import Answer, UpstreamFailure
from gateway.wire.completions import prompts_of
from gateway.wire.dialect import Renderer
from gateway.wire.values import Decoder, UpstreamError, WireError

logger = logging.getLogger(__name__)

BROKEN = Failure("internal_error", "The server failed on this request.", "gateway")
"""What becomes of a request on which our own code failed in a way that nobody foresaw."""
CAP_REACHED = Stop("cost_cap", "The answer has cost what its request allows.", "caller", reason="cost_cap")
MODEL_HEADER = "x-abstractcore-model"
"""Who answers, where that is not who the request named."""


class Calls(Recording):
    """The part of the shell that makes one attempt. `now_us`: microseconds since 1970 UTC; `monotonic`: seconds."""

    def __init__(
        self,
        log: Log,
        price: Price,
        redactor: Redactor,
        now_us: Callable[[], int],
        monotonic: Callable[[], float],
    ) -> None:
        super().__init__(log, price, now_us)
        self._redactor, self._monotonic = redactor, monotonic
        self._url = lru_cache(maxsize=256)(redactor.url)

    def _begun(self, running: Running, plan: Plan, appended: Appended, decoder: Decoder, renderer: Renderer) -> Attempt:
        framer, most = plan.speech.framer(plan.call.streamed), running.submission.most_cost
        attempt = (FrameRun(appended.last), framer, decoder, renderer, plan.scrubber.bytes)
        if most is None:
            return Attempt(*attempt)
        before, prompt = running.exchange.cost or Usd(0), prompt_bytes(plan.call.body)
        cost_of = partial(self._cost_of, plan, before)
        if (cost_of(estimate(prompt, 0)) or before) > most:
            running.end(CAP_REACHED)  # what is left does not pay for the prompt: nobody is called
        return Capped(*attempt, prompt_bytes=prompt, cost_of=cost_of, most=most)

    def _cost_of(self, plan: Plan, before: Usd, usage: Usage) -> Usd | None:
        cost, _ = self._price(plan.provider.name, plan.route.model, usage, None, None, self._now_us())
        return None if cost is None else Usd(before + cost)

    def _check_cap(self, plan: Plan, submission: Submission, most: Usd) -> None:
        """Raises `GatewayError` where a cap cannot be held, or the prompt alone passes it."""
        cost = self._prompt_cost(plan)
        if cost is None or plan.callers_url:
            raise InvalidRequest("The model has no known price, so its cost cannot be capped.", param="max_cost_usd",
                                 code="no_price")  # fmt: skip
        if cost > most:
            raise CostCapped(f"The prompt alone costs about {cost.decimal()} USD.", param="max_cost_usd")

    def _prompt_cost(self, plan: Plan) -> Usd | None:
        """About what it costs to ask; None where there is no price."""
        return self._cost_of(plan, Usd(0), estimate(prompt_bytes(plan.call.body), 0))

    def _call_record(self, plan: Plan) -> tuple[str, str, int]:
        """What is recorded of a call beside its words: its URL, their digest, the time."""
        url = self._url(plan.provider.base_url + plan.call.path)
        return url, sha256(plan.call.body).hexdigest(), self._now_us()

    async def _attempt(
        self, running: Running, plan: Plan, attempt: Attempt, under_way: Racer | None = None
    ) -> Verdict | None:
        """Call the upstream, unless that is `under_way`, and read its answer to the end. None: it is whole. Raises
        `LogError`."""
        running.streamed_call, running.heard_at = plan.call.streamed, None
        running.whole = partial(_is_whole, plan, attempt)
        attempt.called_at = running.called_at = self._monotonic() if under_way is None else under_way.called_at
        attempt.based_at = attempt.based_at or attempt.called_at
        try:
            verdict = await self._tried(running, plan, attempt, under_way)
            if verdict is None:
                _count(running, attempt)
            return verdict
        except LogError:
            raise
        except Exception:
            logger.exception("request %s failed", running.submission.request_id)
            return BROKEN
        finally:
            running.waiting = False
            running.called_at = None

    async def _tried(
        self, running: Running, plan: Plan, attempt: Attempt, under_way: Racer | None = None
    ) -> Verdict | None:
        """The same, with what the call and its answer can fail by as a verdict."""
        try:
            return await self._call(running, plan, attempt, under_way)
        except asyncio.CancelledError:
            running.task.uncancel()
            return _verdict(running, plan, attempt) if running.verdict is not None else Halt("shutdown")
        except UpstreamFailure as failure:
            return None if _is_whole(plan, attempt) else failure_of_call(failure)
        except CapReached:
            return CAP_REACHED
        except WireError as error:
            return Failure("bad_response", str(error))

    async def _call(
        self, running: Running, plan: Plan, attempt: Attempt, under_way: Racer | None = None
    ) -> Verdict | None:
        if running.verdict is not None:
            return running.verdict
        running.waiting = True
        answer = await (
            plan.upstream.open(plan.provider, plan.call, plan.api_key) if under_way is None else under_way.answer()
        )
        try:
            if answer.status != 200:
                return await self._error_of(answer, plan)
            return await self._read(running, plan, answer, attempt)
        finally:
            running.waiting = False
            await answer.close(ended=attempt.decoder.complete)

    async def _read(self, running: Running, plan: Plan, answer: Answer, attempt: Attempt) -> Verdict | None:
        while data := await answer.read():
            running.waiting = False
            running.heard_at = now = self._monotonic()
            if frames := attempt.framer.feed(data):
                attempt.take(frames, now)
                if attempt.ended:
                    break
                await self._release(running, attempt)
            if running.verdict is not None:
                return _verdict(running, plan, attempt)
            running.own_s += self._monotonic() - now
            running.waiting = True
        running.waiting = False
        if not attempt.ended and (frames := attempt.framer.end()):
            attempt.take(frames, self._monotonic())
        if attempt.error is not None:
            return failure_of_error(attempt.error, {}, self._now_us())
        if not _is_whole(plan, attempt):
            return Failure("cut", "the provider's answer broke off before its end")
        return None

    async def _release(self, running: Running, attempt: Attempt) -> None:
        """Commit the frames at hand, then hand their bytes over."""
        rows, text = attempt.rows, attempt.text
        attempt.rows, attempt.text = [], b""
        if rows and running.submission.retained:
            await self._log.append(frames=rows)
        if text:
            await running.outlet.release(attempt.settle(text))

    async def _error_of(self, answer: Answer, plan: Plan) -> Failure:
        """What a non-200 answer means. Where the caller named the host, its body is not shown: it could be anything.
        Its headers are scrubbed like its words: some are passed on and recorded."""
        body = plan.scrubber.bytes(await read_error_body(answer))
        headers = {self._scrubbed(plan, name): self._scrubbed(plan, said) for name, said in answer.headers.items()}
        error = plan.upstream.error(answer.status, headers, body)
        error.message = self._redactor.text(error.message)
        if plan.callers_url:
            error = UpstreamError(f"the provider answered {answer.status}", error.status, error.kind)
        return failure_of_error(error, headers, self._now_us())

    def _scrubbed(self, plan: Plan, text: str) -> str:
        """The text without what the call was sent with, and without the server's own secrets."""
        return self._redactor.text(plan.scrubber.text(text))


def _is_whole(plan: Plan, attempt: Attempt) -> bool:
    """Whether all of an answer came. A stream without `[DONE]` may end with the finish reason of each choice: then it
    has as many as were asked for."""
    if not attempt.decoder.complete or attempt.ended or not plan.call.streamed:
        return attempt.decoder.complete
    prompts = 1 if plan.as_chat else prompts_of(plan.body)
    return len(attempt.fold.choices()) >= (plan.body.get("n") or 1) * prompts


def _verdict(running: Running, plan: Plan, attempt: Attempt) -> Verdict | None:
    """What the attempt was told to end with. None where that is a timeout and the answer is whole: some servers send a
    finish reason, and then neither `[DONE]` nor an end."""
    if type(running.verdict) is Failure and _is_whole(plan, attempt):
        running.verdict = None  # what follows, if anything, begins anew
    return running.verdict


def _count(running: Running, attempt: Attempt) -> None:
    """What the provider of a whole answer did not count is estimated, for its client as for the log."""
    meta = attempt.fold.meta
    if meta.usage is None or meta.usage_estimated:
        guess = estimated(attempt.seen(0.0), running.exchange)
        if guess is not None:
            attempt.fold.estimate(guess)


def ignored(plan: Plan) -> dict[str, str]:
    """The header that names what of the request has no part in the call; empty where all has."""
    return {"x-abstractcore-ignored": in_header(plan.call.ignored)}


def announced(plan: Plan) -> dict[str, str]:
    """The headers of an answer of the model that is asked first: its name, where the request has another for it."""
    if plan.route.reason != "virtual":
        return ignored(plan)
    return {MODEL_HEADER: _named(plan), **ignored(plan)}


def told_elsewhere(plan: Plan) -> dict[str, str]:
    """The headers of an answer that comes from another model than was asked first."""
    model = _named(plan)
    return {MODEL_HEADER: model, "x-abstractcore-fallback": model, **ignored(plan)}


def _named(plan: Plan) -> str:
    return quote(f"{plan.provider.name}/{plan.route.model}"[:LONGEST_HEADER], safe="/:@.+ ")
