"""Several answers on one connection: each is a lane of it, and an exchange with a request id of its own.

Live, a lane's tokens go to the connection as they are recorded. Where the client has not taken what came before, the
lane falls behind: it reads the log from where it stopped, at the client's pace, and the exchange goes on without it.

    {"type": "accepted", …, "request_id", "position"}   the request and its call are recorded
    {"type": "token", …, "request_id", "after", "chunk"}   `after`: bytes of the answer up to here, to resume from
    {"type": "done", …, "request_id", "after", "answer"?}   the answer is whole
    {"type": "error", …, "request_id"?, "after", "error"}   it is not, and why
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson

from eventstore.errors import LogCorrupt, LogError
from gateway.api.channels import Channel
from gateway.api.exchange import Desk
from gateway.edge import POSITION_HEADER
from gateway.errors import GatewayError, damaged
from gateway.exchange.inputs import Submission
from gateway.exchange.render import NotRenderable
from gateway.exchange.resume import Beyond, Cut
from gateway.exchange.running import Leave, running_of
from gateway.exchange.submit import Caller, submit, unread
from gateway.wire.dialects import CHAT

Follow = Callable[[int], AsyncIterator[bytes]]
"""The bytes of the lane's answer from the log, after the first n."""

CANCELLED = {"message": "The generation was cancelled.", "type": "cancelled", "param": None, "code": "cancelled"}
INTERRUPTED = {"message": "The answer broke off.", "type": "server_error", "param": None, "code": "interrupted"}
MISPLACED = {
    "message": "'after' must be one that the server said of this answer.",
    "type": "invalid_request_error",
    "param": "after",
    "code": "invalid_position",
}
_DONE = b"[DONE]"
_DATA = b"data: "
_ERROR = b'{"error":'

logger = logging.getLogger(__name__)


class Lane:
    """One answer: an outlet for the exchange that makes it, or the reader of one that goes on elsewhere (`read`).

    `label` is what its messages are known by, such as `{"id": "a"}`. A `detached` one goes on when the client leaves.
    `started` is set once the exchange is recorded, or refused."""

    def __init__(
        self, channel: Channel, label: Mapping[str, Any], request_id: str, follow: Follow, *, detached: bool = False
    ) -> None:
        self._channel, self._follow, self._detached = channel, follow, detached
        self.request_id = request_id
        self._said = b"," + orjson.dumps({**label, "request_id": request_id})[1:-1]
        self._after = 0
        self._position: str | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._behind: asyncio.Task[None] | None = None
        self._error: bytes | None = None
        self._whole: bytes | None = None
        self._why = INTERRUPTED
        self.began = False
        self.started = asyncio.Event()

    # As an outlet.

    def prepare(self, headers: Mapping[str, str]) -> None:
        if POSITION_HEADER in headers and self._accepting is None:
            self._position = headers[POSITION_HEADER]
            self._accepting = asyncio.get_running_loop().create_task(self._accept())
            self.started.set()

    async def release(self, data: bytes) -> None:
        self.began = True
        await self._accept()
        if self._behind is None and not self._channel.gone():
            await self._live(data)

    def ending(self) -> None:
        """Its pings are the channel's."""

    async def finish(self, data: bytes) -> None:
        if data:
            await self.release(data)
        if self._behind is not None:
            await self._behind
        else:
            await self._end()

    async def abort(self) -> None:
        if self._behind is not None:
            self._behind.cancel()
        await self._accept()
        await self._fail(self._why)

    def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        if status == 200:
            self._whole = body
        else:
            self._error = body
        self.started.set()

    def gone(self) -> bool:
        return self._channel.gone() and not self._detached

    def tick(self, now: float) -> None:
        self._channel.tick(now)

    # What else becomes of it.

    async def closed(self) -> None:
        """After the exchange: say the whole answer, or the error instead of it, where there is one."""
        await self._accept()
        if not self.began and (self._whole is not None or self._error is not None):
            await self._end()

    async def read(self, after: int) -> None:
        """Say what the log has of the answer after so many of its bytes, and what it gets, to its end."""
        self._after = after
        await self._catch_up()

    def cancelled(self) -> None:
        """The client asked for its end."""
        self._why = CANCELLED

    def drop(self) -> None:
        """End the connection: nobody may take what came for the whole."""
        self._channel.drop()

    async def _accept(self) -> None:
        position, self._position = self._position, None
        if position is not None:
            await self._say("accepted", b',"position":%b' % position.encode())

    async def _live(self, data: bytes) -> None:
        if self._channel.unread() + len(data) > self._channel.pace.behind:
            self._behind = asyncio.get_running_loop().create_task(self._catch_up())
            return
        await self._tokens(data)

    async def _catch_up(self) -> None:
        try:
            await self._channel.taken()
            async for data in self._follow(self._after):
                if data.startswith(_ERROR):
                    self._error = data
                    break
                if not data.startswith(_DATA):
                    await self._fail(MISPLACED)
                    return
                await self._tokens(data)
                await self._channel.taken()
            await self._end()
        except Cut:
            await self._fail(self._why)
        except Beyond:
            await self._fail(MISPLACED)
        except NotRenderable as error:
            await self._fail({**INTERRUPTED, "message": str(error), "code": "not_renderable"})
        except LogCorrupt as error:
            logger.error("nothing is served from where the log is damaged: %s", error)
            await self._fail(damaged().error())
        except TimeoutError:
            self._channel.drop()
        except ConnectionError:
            pass  # it left

    async def _tokens(self, data: bytes) -> None:
        """Whole server-sent events, each as a message."""
        for event in data.split(b"\n\n")[:-1]:
            self._after += len(event) + 2
            chunk = event.removeprefix(_DATA)
            if chunk.startswith(_ERROR):
                self._error = chunk
            elif chunk != _DONE:
                await self._say("token", b',"after":%d,"chunk":%b' % (self._after, chunk))

    async def _end(self) -> None:
        if self._error is not None:
            await self._fail(orjson.loads(self._error)["error"])
        elif self._whole is not None:
            await self._say("done", b',"after":0,"answer":%b' % self._whole)
        else:
            await self._say("done", b',"after":%d' % self._after)

    async def _fail(self, error: Mapping[str, Any]) -> None:
        await self._say("error", b',"after":%d,"error":%b' % (self._after, orjson.dumps(error)))

    async def _say(self, kind: str, more: bytes) -> None:
        if self._channel.gone():
            return
        try:
            await self._channel.send(kind, b'{"type":"%b"%b%b}' % (kind.encode(), self._said, more))
        except ConnectionError:
            self._channel.drop()


async def run_lane(desk: Desk, caller: Caller, body: dict[str, Any], lane: Lane, parent: str | None = None) -> None:
    """Serve a chat request on a lane, to its end. `parent` is what it is part of."""
    try:
        submission = submitted(desk, caller, body, parent)
        if isinstance(submission, GatewayError):
            refused = unread(caller, CHAT, orjson.dumps(body))
            await desk.exchanges.refuse(refused, lane, submission)
        else:
            await desk.exchanges.run(submission, lane)
        await lane.closed()
    except LogError:
        logger.exception("request %s could not be recorded", caller.request_id)
        lane.drop()
    finally:
        lane.started.set()


def submitted(desk: Desk, caller: Caller, body: dict[str, Any], parent: str | None) -> Submission | GatewayError:
    """A chat body as a submission, or why it is none."""
    try:
        CHAT.check(body)
        return replace(submit(caller, body, orjson.dumps(body), desk.rules, CHAT, body), parent=parent)
    except GatewayError as error:
        return error


async def leave(desk: Desk, lane: Lane, reason: str) -> None:
    """End a lane's exchange as if its client had left, for this reason."""
    lane.cancelled()
    if not _ended(desk, lane, reason):  # it has not begun, or is over
        await lane.started.wait()
        _ended(desk, lane, reason)


def _ended(desk: Desk, lane: Lane, reason: str) -> bool:
    """Whether the lane's exchange is open, and hears that it shall end."""
    running = running_of(lane.request_id, desk.exchanges.open)
    if running is not None:
        running.end(Leave(reason))
    return running is not None
