"""Rows of consecutive positions as the bytes of a block, and back. Pure.

first position        8 bytes
lanes                 numbers: 0 for each position that holds an event, 1 for each that holds frames
events, frames        see `archive_events` and `archive_frames`; the columns are those of `columns`
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from operator import attrgetter

from eventstore import archive_events, archive_frames
from eventstore.columns import ColumnReader, numbers
from eventstore.envelope import Recorded, RecordedEvent, RecordedFrames
from eventstore.errors import LogCorrupt

_FIRST = struct.Struct(">Q")


def packed(rows: Sequence[Recorded]) -> bytes:
    """The block. Raises `LogCorrupt` where a row's columns are not of their types, or its digest is wrong."""
    events = [row for row in rows if isinstance(row, RecordedEvent)]
    frames = [row for row in rows if isinstance(row, RecordedFrames)]
    first = rows[0].position
    lanes = numbers([isinstance(row, RecordedFrames) for row in rows])
    try:
        return b"".join((_FIRST.pack(first), lanes, archive_events.packed(events), archive_frames.packed(frames)))
    except (AttributeError, TypeError, ValueError, struct.error) as error:
        last = rows[-1].position
        raise LogCorrupt(first, f"a column in positions {first} to {last} is not what was written: {error}") from error


def unpacked(plain: bytes) -> list[Recorded]:
    """The rows again. What is no block raises errors of all kinds; `archive_format.unpack` has the digest before it."""
    columns = ColumnReader(plain)
    (first,) = _FIRST.unpack(columns.take(_FIRST.size))
    lanes = columns.numbers()
    events = archive_events.unpacked(columns, [first + at for at, lane in enumerate(lanes) if not lane])
    frames = archive_frames.unpacked(columns, [first + at for at, lane in enumerate(lanes) if lane])
    return sorted([*events, *frames], key=attrgetter("position"))
