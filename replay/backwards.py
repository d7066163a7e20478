"""The newest events first, as far back as somebody wants, and as far as the log can be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from eventstore.envelope import RecordedEvent
from eventstore.errors import LogCorrupt
from eventstore.reader import Reader
from replay.recorded import sound_events

T = TypeVar("T")
FIRST_WINDOW, LARGEST_WINDOW = 4_096, 65_536
"""Positions read in the first step backwards; each further step takes twice as many, up to what fits into memory."""


def backwards(reader: Reader, head: int) -> Iterator[RecordedEvent]:
    """The ledger's events from a position on. Raises `LogCorrupt` where one is damaged or cannot be read; that hides
    nothing that came after it."""
    until, window = head, FIRST_WINDOW
    while until > 0:
        after = max(0, until - window)
        try:
            events = list(sound_events(reader, after, until))
        except LogCorrupt as damage:
            if damage.position == until or until - after == 1:
                raise
            window = until - (damage.position if after < damage.position < until else (after + until) // 2)
            continue
        yield from reversed(events)
        until, window = after, min(window * 2, LARGEST_WINDOW)


def until_damage(found: Iterator[T], show: Callable[[list[T]], None]) -> None:
    """Show all that is found. Where damage ends it, what was found before is shown first. Raises `LogCorrupt`."""
    all_: list[T] = []
    try:
        all_.extend(found)
    finally:
        show(all_)
