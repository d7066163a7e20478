"""Runs tools: arguments checked, so many at once, each for a time, each result cut and scrubbed. Records nothing."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from hashlib import sha256

from eventstore.catalogue.tool import ToolCompleted, ToolFailed
from eventstore.catalogue.values import milliseconds
from eventstore.value import value
from gateway.redaction import Redactor
from gateway.tools.registry import ToolRegistry
from gateway.tools.values import SHOWN_OF_ERRORS, Offered, Progress, ToolTrouble, capped, problem_of
from gateway.wire.structure import only_json

AT_ONCE = 32

logger = logging.getLogger(__name__)


@value(kw_only=True)
class Job:
    """A call of a tool: `id` binds its events, `arguments` is the text as the model or the client wrote it.
    `request_id` and `attempt` say where the model asked for it. `retained` is False where content is not to be kept."""

    id: str
    name: str
    arguments: str
    request_id: str | None = None
    attempt: int | None = None
    retained: bool = True


@value(kw_only=True)
class Outcome:
    """How a call ended: `text` is its result, or with a `kind` of trouble what went wrong. `duration_ms` is None where
    it was not run to its end."""

    text: str
    duration_ms: float | None = None
    kind: str | None = None
    cut: bool = False

    def event(self, job: Job) -> ToolCompleted | ToolFailed:
        """As it is recorded."""
        if self.kind is not None:
            return ToolFailed(
                tool_name=job.name,
                call_id=job.id,
                kind=self.kind,
                message=self.text if job.retained else None,
                duration_ms=self.duration_ms,
                request_id=job.request_id,
                attempt=job.attempt,
            )
        data = self.text.encode()
        return ToolCompleted(
            tool_name=job.name,
            call_id=job.id,
            duration_ms=self.duration_ms or 0.0,
            length=len(data),
            digest=sha256(data).hexdigest(),
            cut=self.cut,
            output=self.text if job.retained else None,
            request_id=job.request_id,
            attempt=job.attempt,
        )


class ToolRunner:
    """Runs the tools of a registry. `timeout_s` is for those without their own; `monotonic`: seconds."""

    def __init__(
        self,
        registry: ToolRegistry,
        redactor: Redactor,
        timeout_s: float,
        monotonic: Callable[[], float],
        at_once: int = AT_ONCE,
    ) -> None:
        self.registry = registry
        self._redactor, self._timeout_s, self._monotonic = redactor, timeout_s, monotonic
        self._room = asyncio.Semaphore(at_once)

    def refusal(self, job: Job) -> Outcome | None:
        """What a call comes to that cannot even begin: no such tool any more, or wrong arguments."""
        offered = self.registry.find(job.name)
        if offered is None:
            return Outcome(kind="removed", text=f"There is no tool {job.name!r} now.")
        problem = problem_of(offered.tool, job.arguments)
        return None if problem is None else Outcome(kind="bad_arguments", text=capped(self.clean(problem))[0])

    def clean(self, text: str) -> str:
        """The text without the server's secrets, and without what is no UTF-8."""
        return self._redactor.bytes(text.encode("utf-8", "replace")).decode()

    async def run(self, job: Job, progress: Progress) -> Outcome:
        """Run a call that was not refused, to its end. Never raises but when cancelled."""
        began = self._monotonic()
        offered = self.registry.find(job.name)
        try:
            if offered is None:
                raise ToolTrouble("removed", f"There is no tool {job.name!r} now.")
            text, kind = await self._result(offered, job, progress), None
        except ToolTrouble as trouble:
            text, kind = trouble.message + self.clean(trouble.quoted)[:SHOWN_OF_ERRORS], trouble.kind
        text, cut = capped(self.clean(text))
        took = milliseconds(self._monotonic() - began)
        return Outcome(text=text, kind=kind, cut=cut, duration_ms=took)

    async def _result(self, offered: Offered, job: Job, progress: Progress) -> str:
        limit_s = offered.tool.timeout_s or self._timeout_s
        try:
            async with asyncio.timeout(limit_s), self._room:
                arguments = json.loads(only_json(job.arguments) or "{}")  # orjson makes floats of long integers
                return await offered.run(arguments, self._cleaned(progress))
        except TimeoutError as error:
            raise ToolTrouble("timeout", f"The tool took longer than {limit_s:g} s.") from error
        except asyncio.CancelledError as error:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            raise ToolTrouble("tool_error", "The tool was cancelled.") from error  # by itself: somebody waits for it
        except ToolTrouble:
            raise
        except Exception as error:
            logger.exception("the tool %s failed", job.name)
            raise ToolTrouble("tool_error", "The tool failed.") from error

    def _cleaned(self, told: Progress) -> Progress:
        """The same, told without secrets."""

        async def tell(progress: float, total: float | None, message: str | None) -> None:
            await told(progress, total, None if message is None else self.clean(message))

        return tell
