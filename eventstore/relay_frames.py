"""The lane of the frames, into the stream TOKENS."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar

from eventstore.head import Head
from eventstore.incarnations import Incarnations
from eventstore.jetstream import JetStream, Stored
from eventstore.relay_audit import AsComposed, Comparison
from eventstore.relay_lane import Fenced, Lane
from eventstore.relay_messages import (
    WHOLE,
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
        origin: str,
        changed: Callable[[], None],
    ) -> None:
        super().__init__(rows, messages, incarnations, head, [event_type], changed)
        self._frames, self._origin = messages, origin
        self.refused: Collection[str] = ()
        """Origins of which JetStream holds what this log did not take: left alone."""

    async def _start(self, js: JetStream) -> int | None:
        """Frames go out in order of position, so the newest of all messages says how far it went. Where there is none,
        the stream is new, or all of it grew too old: begin with what is young enough to be kept."""
        self._frames.rewind()
        held = await self._held(js)
        places = [await self._newest(js, origin) for origin in self._audited() if origin in held]
        if None in places:
            return None
        if places:
            return max(place for place in places if place is not None) - 1
        return self._incarnations.position_before((time.time_ns() // 1000) - self.max_age_s * 1_000_000)

    async def _newest(self, js: JetStream, origin: str) -> int | None:
        """The position of the origin's newest message. None if it cannot be read, though it is counted, or if this log
        has something else there: it was pulled back, and lies elsewhere now."""
        if (stored := await js.last(self.stream, of_origin(origin))) is None:
            return None
        mark = self._marks[origin] = self._mark(stored)
        if origin != self._origin:
            return mark.key[0] if self._stands(mark.key, stored) else None
        if mark.key[0] > self._rows.head():
            raise Fenced(f"TOKENS holds a frame at {mark.key[0]} of {origin}, past the end of this log")
        return mark.key[0]

    def _stands(self, key: Key, stored: Stored) -> bool:
        """Whether this log would say the same there; what is in an archive by now is taken for granted."""
        position = key[0]
        if position > self._rows.head() or not self._rows.read(position - 1, 1, until=position):
            return position <= self._rows.head()
        composed, _ = self._frames.another().read(position - 1, position)
        return any(
            outgoing.key == key and (WHOLE in stored.headers or outgoing.message.payload == stored.payload)
            for outgoing in composed
        )

    def _audited(self) -> Collection[str]:
        return {span.origin for span in self._incarnations.spans()} - set(self.refused)

    async def _comparison(self, js: JetStream) -> Comparison:
        """The frames that must be there; where the oldest may have been dropped, those after the oldest that is."""
        state = await js.state(self.stream)
        kept_s = min(state.max_age_s or self.max_age_s, self.max_age_s) - EXPIRING_S
        known = not state.crowded and kept_s > 0
        after = self._incarnations.position_before(time.time_ns() // 1000 - int(kept_s * 1e6)) if known else None
        return AsComposed(self._frames.another(), self._audited(), after, self.position)

    def _key(self, headers: Mapping[str, str]) -> Key:
        return frame_key(headers)
