"""An answer that is read from the log as it comes there, for somebody else than who asked first."""

from __future__ import annotations

from hashlib import sha256

from eventstore.envelope import Appended, RecordedEvent
from eventstore.log import Log
from gateway.exchange.outlet import Outlet
from gateway.exchange.resume import Reading


class Copying:
    """An answer on its way from the log to another client. `end` is how its source ended."""

    def __init__(self, reading: Reading, streamed: bool) -> None:
        self._reading, self._streamed = reading, streamed
        self._digest, self._held = sha256(), [b""]
        self.length = 0
        self.end: RecordedEvent | None = None

    @property
    def whole(self) -> bool:
        return self._reading.rendering.whole

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    async def follow(self, log: Log, outlet: Outlet) -> None:
        """Until the source has ended. A stream's pieces are released as they come, all but those of its end."""
        reading = self._reading
        async for head in log.follow(0):
            async for data in reading.until(head):
                self._digest.update(data)
                self.length += len(data)
                if self._streamed and not reading.rendering.ended:
                    await outlet.release(data)
                else:
                    self._held.append(data)
            if reading.rendering.ended:
                self.end = reading.last
                return

    async def hand_over(self, outlet: Outlet, appended: Appended) -> None:
        """The rest of a stream, or the whole answer; an error with the headers that its source's client got of it."""
        rendering, rest = self._reading.rendering, b"".join(self._held)
        if self._streamed and rendering.status == 200:
            await outlet.finish(rest)
            return
        if outlet.began:  # by a ping, while the error was being recorded that its source's client got as an answer
            await outlet.abort()
            return
        passed_on = (self.end is not None and self.end.body.get("headers")) or {}
        told = {"x-abstractcore-position": str(appended.last), "x-abstractcore-cost-usd": "0"}
        outlet.answer(rendering.status, {**rendering.headers, **passed_on, **told}, rest)
