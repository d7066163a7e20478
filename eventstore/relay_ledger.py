"""The lane of the ledger, into the stream LEDGER."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, ClassVar

from eventstore.head import Head
from eventstore.incarnations import Incarnations, Span
from eventstore.jetstream import JetStream, Stored
from eventstore.relay_audit import Comparison, Gapless
from eventstore.relay_lane import Fenced, Lane, Mark
from eventstore.relay_messages import (
    BEYOND,
    DIGEST,
    Key,
    LedgerMessages,
    Rows,
    ledger_key,
    of_origin,
)


class LedgerLane(Lane):
    """Every ledger event, of this and of earlier incarnations, once, in order per origin."""

    stream = "LEDGER"
    fixed: ClassVar[Mapping[str, Any]] = {
        "retention": "limits",
        "storage": "file",
        "discard": "new",  # full means refused; the default would silently drop the oldest
        "max_age": 0,
        "max_msgs_per_subject": -1,
        "allow_atomic": True,
        "allow_direct": True,
    }

    def __init__(
        self,
        rows: Rows,
        incarnations: Incarnations,
        head: Head,
        types: Iterable[str],
        origin: str,
        changed: Callable[[], None],
    ) -> None:
        super().__init__(rows, LedgerMessages(rows), incarnations, head, types, changed)
        self._origin = origin
        self.foreign: list[str] = []
        """Earlier origins of which the stream holds other or more events than this log: left alone."""

    async def _start(self, js: JetStream) -> int | None:
        self.foreign.clear()
        head = self._rows.head()  # before the spans: what is written meanwhile comes after it
        held = await self._held(js)
        incomplete = []
        for span in self._incarnations.spans():
            stored = await js.last(self.stream, of_origin(span.origin)) if span.origin in held else None
            if _has_hole(span, stored, held.get(span.origin, 0)):
                return None
            incomplete.append(self._place(span, stored))
        return min((place for place in incomplete if place is not None), default=head)

    def _place(self, span: Span, stored: Stored | None) -> int | None:
        """The position after which this origin's events are missing in the stream; None if it lacks none."""
        mark = self._marks[span.origin] = self._mark(stored)
        if stored is None:
            return span.first - 1
        found = self._incarnations.find(span.origin, mark.key[0])
        if found is None or found[1].hex() != stored.headers.get(DIGEST):
            return self._unknown(span, mark, found is None)
        return found[0] if mark.key[0] < span.last_oseq else None

    def _unknown(self, span: Span, mark: Mark, missing: bool) -> int | None:
        """The newest message is not what this log has there."""
        if span.origin == self._origin:
            raise Fenced(f"LEDGER holds event {mark.key[0]} of {span.origin}, which this log never recorded")
        if missing and mark.key[0] < span.first_oseq:
            return span.first - 1  # what lies between is in an archive
        self.foreign.append(span.origin)
        mark.key = BEYOND
        return None

    def _audited(self) -> Collection[str]:
        spans = self._incarnations.spans()
        return [span.origin for span in spans if span.first_oseq == 1 and span.origin not in self.foreign]

    async def _comparison(self, js: JetStream) -> Comparison:
        return Gapless(self._audited())

    def _key(self, headers: Mapping[str, str]) -> Key:
        return ledger_key(headers)


def _has_hole(span: Span, newest: Stored | None, count: int) -> bool:
    """Whether the stream, which counts so many of this origin, lacks events that this log could publish in order."""
    if not count or span.first_oseq != 1:
        return False
    return newest is None or count < ledger_key(newest.headers)[0] <= span.last_oseq
