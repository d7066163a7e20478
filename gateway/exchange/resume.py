"""An answer read from the log: again from its beginning, or from where a slow reader stopped, to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from eventstore.envelope import RecordedEvent
from eventstore.log import Log
from gateway.exchange.ids import stream_of
from gateway.exchange.proven import WINDOW, prove
from gateway.exchange.recorded import copy_blob
from gateway.exchange.render import MakeForm, Rendering, recorded_form
from gateway.exchange.shared import copied_pieces, copy_of, form_for, source_of


class Cut(Exception):
    """The answer ended before it was whole: who reads it must not take it for the whole."""


class Beyond(Exception):
    """The answer is not as long as its reader says it has read."""


async def follow_answer(
    log: Log, request_id: str, skip: int = 0, form: MakeForm = recorded_form
) -> AsyncIterator[bytes]:
    """The bytes of a request's answer after its first `skip`, as they are recorded, to the terminal event. `form` makes
    another form of the answer than its client got.

    Nothing is kept for the reader: it goes back to the log by itself. Raises `NotRenderable`, `LogCorrupt`; `Cut`
    behind the last byte of an answer that is not whole, `Beyond` where a whole one is shorter than `skip`.
    """
    events = await log.read_stream(stream_of(request_id))
    if copy := copy_of(events):
        for data in copied_pieces(events, await copy_blob(log, copy), form):
            if len(data) > skip:
                yield data[skip:]
            skip = max(0, skip - len(data))
        if skip:
            raise Beyond(request_id)
        return
    source = source_of(events)
    await prove(log, events if source is None else await log.read_stream(stream_of(source)))
    reading = _reading(log, request_id, events, form)
    async for head in log.follow(0):
        async for data in reading.until(head):
            if skip >= len(data):
                skip -= len(data)
                continue
            yield data[skip:]
            skip = 0
        if reading.rendering.ended:
            if not reading.rendering.whole:
                raise Cut(request_id)
            if skip:
                raise Beyond(request_id)
            return


def _reading(log: Log, request_id: str, events: Sequence[RecordedEvent], form: MakeForm) -> Reading:
    """Its own answer, or the one of another that it is given."""
    source = source_of(events)
    if source is None:
        return Reading(log, stream_of(request_id), form)
    return Reading(log, stream_of(source), form_for(events, form), as_sent=form is recorded_form)


class Reading:
    """Where a reader of one exchange stands in both lanes. `last` is the newest of its events."""

    def __init__(self, log: Log, stream: str, form: MakeForm, as_sent: bool | None = None) -> None:
        self._log, self._stream = log, stream
        self.rendering = Rendering(form, as_sent)
        self.last: RecordedEvent | None = None
        self._version = 0
        self._generation = 0
        self._position = 0

    async def until(self, head: int) -> AsyncIterator[bytes]:
        """What the events and frames up to `head` add, in their order."""
        events = [e for e in await self._log.read_stream(self._stream, self._version) if e.position <= head]
        for event in events:
            async for data in self._frames(event.position - 1):
                yield data
            self._take(event)
            if data := self.rendering.event(event):
                yield data
        async for data in self._frames(head):
            yield data

    def _take(self, event: RecordedEvent) -> None:
        self._version, self._position, self.last = event.version, event.position, event
        if event.type == "generation_started":
            self._generation = event.position

    async def _frames(self, until: int) -> AsyncIterator[bytes]:
        if not self._generation or self.rendering.ended:
            return
        while self._position < until:
            window = min(until, self._position + WINDOW)
            for row in await self._log.read_frames(self._generation, window, self._position):
                if data := self.rendering.frames(row):
                    yield data
            self._position = window
