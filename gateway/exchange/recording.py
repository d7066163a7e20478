"""What every part of the shell writes through: what happened is decided upon, appended, and only then believed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eventstore.catalogue.event import Event
from eventstore.envelope import Appended, NewFrames, StreamWrite
from eventstore.log import Log
from gateway.exchange.decide import Price, Views, decide
from gateway.exchange.ids import stream_of
from gateway.exchange.inputs import Input, Submission
from gateway.exchange.running import Running
from gateway.exchange.state import fold
from gateway.virtual_models import VirtualModels


class Recording:
    """The part of the shell that records. `now_us`: microseconds since 1970 UTC; `virtual` sees what is recorded."""

    virtual: VirtualModels | None = None

    def __init__(self, log: Log, price: Price, now_us: Callable[[], int]) -> None:
        self._log, self._price, self._now_us = log, price, now_us

    async def _record(
        self,
        running: Running,
        happened: Input,
        frames: Sequence[NewFrames] = (),
        admit: bool = False,
        price: Price | None = None,
        blobs: Sequence[bytes] = (),
    ) -> Appended:
        """Decide, append, wait until it is durable, and only then evolve: what the log refused did not happen. `blobs`
        are beside those of the request, which its first events bring. Raises `LogError`."""
        before, submission = running.exchange, running.submission
        events = decide(happened, before, Views(price or self._price, self._now_us()))
        write = StreamWrite(stream_of(submission.request_id), before.version, tuple(e.new() for e in events))
        if before.version == 0:
            blobs = submission.blobs
        appended = await self._log.append(
            *_beside(submission, before.version == 0, events),
            write,  # the last: its frames go by its position
            frames=frames if submission.retained else (),
            blobs=blobs if submission.retained else (),
            admit=admit,
        )
        running.exchange = fold(before, events)
        if self.virtual is not None and not before.callers_url:
            self.virtual.saw(events)
        return appended


def _beside(submission: Submission, first: bool, events: Sequence[Event]) -> list[StreamWrite]:
    """What goes into the commit of these events on other streams than the request's."""
    if submission.turn is submission.claims:  # None, both: most requests have neither
        return []
    parts = [part for part in (submission.turn, submission.claims) if part is not None]
    return [write for part in parts for write in part.beside(submission.request_id, first, events)]
