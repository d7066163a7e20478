"""What goes into the log and what comes out of it. Two types for each lane: not yet recorded, and recorded.

The *ledger* holds events: flat JSON objects, chained by digest. The *frames* lane holds verbatim pieces of a
long answer as they arrived, several to a row; the ledger binds them by count and digest.
One sequence of positions runs over both.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import orjson

from eventstore.value import value

ANY_VERSION = -1
"""Expected version of a write that does not care (a node's own stream, a counter)."""
NEW_STREAM = 0
"""Expected version of a stream that must not exist yet."""


@value
class NewEvent:
    """An event that is not recorded yet. `fields` is the JSON object of the type's own fields, as bytes."""

    type: str
    schema: int
    fields: bytes


@value
class StreamWrite:
    """Events for one stream, with the version that stream must be at (`NEW_STREAM`, `ANY_VERSION` or a number)."""

    stream: str
    expected: int
    events: tuple[NewEvent, ...]


class Run(Protocol):
    """What the log needs to know of a run of frames, and keeps for it; see `eventstore.frames.FrameRun`."""

    generation: int
    last_position: int


@value
class NewFrames:
    """One row for the frames lane: `count` frames, the first numbered `frame` (from 1), packed by `codec`.

    `run` is the generation they belong to; the log reads its `generation` and keeps its `last_position`.
    `offset_us` is microseconds since the run began, on a monotonic clock.
    """

    run: Run
    frame: int
    count: int
    offset_us: int
    codec: int
    bytes: bytes


@value
class Appended:
    """What a durable append got: `first` and `last` position of its event rows (0 and the frames' position
    when it had frames only), and the time `at` (microseconds since 1970 UTC, hybrid logical clock) of its last one."""

    first: int
    last: int
    at: int


@dataclass(frozen=True)
class RecordedEvent:
    """One ledger row. `data` is the whole flat object as exact bytes; the columns are indexes, and agree."""

    position: int
    origin: str
    oseq: int
    stream: str
    version: int
    type: str
    at: int
    codec: int
    data: bytes
    digest: bytes

    @cached_property
    def body(self) -> dict[str, Any]:
        """The flat object, parsed once."""
        value: dict[str, Any] = orjson.loads(self.data)
        return value


@value
class RecordedFrames:
    """One row of the frames lane. `back` is the distance in positions to the run's previous row, 0 for its first;
    `generation` is the position of the ledger event that opened the run."""

    position: int
    generation: int
    back: int
    frame: int
    count: int
    offset_us: int
    codec: int
    bytes: bytes


Recorded = RecordedEvent | RecordedFrames
