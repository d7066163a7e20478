"""Two calls that race to their first frame: the second begins where the first has brought nothing for a while.

The log has the first one's start before it is made, and `hedge_started` before the second is. Whichever brings a frame
first is read on as its generation; the other is ended, and has its own `generation_failed`. No frame of the loser was
recorded or shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from eventstore.value import value
from gateway.exchange.inputs import FileGiven
from gateway.exchange.plan import Plan
from gateway.upstreams.upstream import Answer
from gateway.wire.values import WireError
from gateway.wire.whole_body import BODY_LIMIT


@value
class Beside:
    """The call that may be made beside the first, after so many milliseconds. `callers_url`: it goes where its caller
    said. `files` are those that its model is given otherwise than the first, with their `blobs`."""

    plan: Plan
    after_ms: int
    callers_url: bool
    files: tuple[FileGiven, ...] = ()
    blobs: tuple[bytes, ...] = ()


class Heard:
    """An answer of which the beginning was read to see whether anything came: it is read again from there."""

    def __init__(self, answer: Answer, beginning: list[bytes]) -> None:
        self._answer, self._beginning = answer, beginning

    @property
    def status(self) -> int:
        return self._answer.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._answer.headers

    async def read(self) -> bytes:
        return self._beginning.pop(0) if self._beginning else await self._answer.read()

    async def close(self, ended: bool = False) -> None:
        await self._answer.close(ended)


class Racer:
    """A call under way, from `called_at` (monotonic seconds). `answer()` takes what it brought; `stop()` ends it where
    nobody took that."""

    def __init__(self, plan: Plan, called_at: float) -> None:
        self.plan, self.called_at = plan, called_at
        self._taken = False
        self.task = asyncio.create_task(_heard(plan))

    @property
    def won(self) -> bool:
        """Whether it has brought a frame, or the whole of an answer."""
        return self.task.done() and not self.failed

    @property
    def failed(self) -> bool:
        """Whether it is over, and brought an error or nothing."""
        return self.task.done() and (self.task.exception() is not None or self.task.result().status != 200)

    async def answer(self) -> Answer:
        """The answer, from its beginning; whoever takes it closes it. Raises what the call raised."""
        answer = await self.task
        self._taken = True
        return answer

    async def stop(self) -> None:
        """End it; nothing of it is open afterwards."""
        if self._taken:
            return
        self.task.cancel()
        await asyncio.wait({self.task})
        if not self.task.cancelled() and self.task.exception() is None:
            await self.task.result().close()


async def _heard(plan: Plan) -> Heard:
    """The answer, once it has brought a frame, or will bring none."""
    answer = await plan.upstream.open(plan.provider, plan.call, plan.api_key)
    beginning: list[bytes] = []
    length = 0
    try:
        framer = plan.speech.framer(plan.call.streamed)
        while answer.status == 200 and (data := await answer.read()):
            beginning.append(data)
            length += len(data)
            if framer.feed(data) or length > BODY_LIMIT:
                break
    except WireError:  # who reads it will find the same
        return Heard(answer, beginning)
    except BaseException:
        await answer.close()
        raise
    return Heard(answer, beginning)


def ahead_of(first: Racer, second: Racer) -> Racer:
    """The one to go on with: that has won, the first where both have; else the one that has not failed."""
    if first.won:
        return first
    return second if second.won or first.failed else first
