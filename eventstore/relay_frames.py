"""The lane of the frames, into the stream TOKENS."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar

from eventstore.incarnations import Incarnations, Span
from eventstore.jetstream import JetStream
from eventstore.relay_audit import AsComposed, Comparison
from eventstore.relay_lane import Fenced, Head, Lane
from eventstore.relay_messages import (
    FrameMessages,
    Key,
    Rows,
    frame_key,
    of_origin,
)

EXPIRING_S = 600.0
"""A frame this close to its `max_age` may be gone before an audit comes to it."""


class FrameLane(Lane):
    """The frames of the last while, one message a frame; the oldest go when the stream is full."""

    stream = "TOKENS"
    fixed: ClassVar[Mapping[str, Any]] = {
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "allow_atomic": True,
        "allow_direct": True,
    }
    max_age_s: ClassVar[int] = 24 * 3600
    initial: ClassVar[Mapping[str, Any]] = {"max_bytes": 256 << 20, "max_age": max_age_s * 1_000_000_000}

    def __init__(
        self,
        rows: Rows,
        messages: FrameMessages,
        incarnations: Incarnations,
        head: Head,
        event_type: str,
        changed: Callable[[], None],
    ) -> None:
        super().__init__(rows, messages, incarnations, head, [event_type], changed)
        self._frames = messages

    async def _start(self, js: JetStream) -> int | None:
        """Frames go out in order of position, so the newest origin that has a message says how far it went. Where
        none has one, the stream is new, or all of it grew too old: begin with what is young enough to be kept."""
        self._frames.rewind()
        held = await self._held(js)
        for span in reversed(self._incarnations.spans()):
            if span.origin in held:
                return await self._after_newest(js, span)
        return self._incarnations.position_before((time.time_ns() // 1000) - self.max_age_s * 1_000_000)

    async def _after_newest(self, js: JetStream, span: Span) -> int | None:
        if (stored := await js.last(self.stream, of_origin(span.origin))) is None:
            return None  # it is counted, and cannot be read
        mark = self._marks[span.origin] = self._mark(stored)
        if mark.key[0] > self._rows.head():
            raise Fenced(f"TOKENS holds a frame at {mark.key[0]} of {span.origin}, past the end of this log")
        return mark.key[0] - 1

    def _audited(self) -> Collection[str]:
        return {span.origin for span in self._incarnations.spans()}

    async def _comparison(self, js: JetStream) -> Comparison:
        """The frames that must be there; where the oldest may have been dropped, those after the oldest that is."""
        state = await js.state(self.stream)
        kept_s = min(state.max_age_s or self.max_age_s, self.max_age_s) - EXPIRING_S
        known = not state.crowded and kept_s > 0
        after = self._incarnations.position_before(time.time_ns() // 1000 - int(kept_s * 1e6)) if known else None
        return AsComposed(self._frames.another(), self._audited(), after, self.position)

    def _key(self, headers: Mapping[str, str]) -> Key:
        return frame_key(headers)
