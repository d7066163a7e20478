"""The frames of an archived block as columns. Pure.

What can be told from the rows before is not written: a run's generation and the number of its next frame. When frames
came is written as the difference from when they should have, were they to come with the row before: rows lie in the
order in which they came. Of each run what its rows hold stands together, without what separates frames: in this order
it is the text of the answer, as the event at its end has it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

from eventstore.columns import ColumnReader, folded, numbers, texts, unfolded
from eventstore.envelope import RecordedFrames
from eventstore.frames import RS, US


@dataclass(slots=True)
class _Runs:
    """What the rows so far say of the next one."""

    generation_at: dict[int, int] = field(default_factory=dict)
    next_frame: dict[int, int] = field(default_factory=dict)
    begun_us: dict[int, int] = field(default_factory=dict)
    clock_us: int = 0

    def offset_us(self, generation: int) -> int:
        """The offset of a row of this run that comes when the last row of any run came."""
        return self.clock_us - self.begun_us.get(generation, self.clock_us)

    def pass_on(self, position: int, generation: int, frame: int, offset_us: int) -> None:
        """A row, `frame` being the number of the next one's first."""
        self.generation_at[position] = generation
        self.next_frame[generation] = frame
        begun = self.begun_us.setdefault(generation, self.clock_us - offset_us)
        self.clock_us = begun + offset_us


def packed(rows: Sequence[RecordedFrames]) -> bytes:
    """The columns."""
    runs = _Runs()
    back, begins, begins_back, frame, offset = [], [], [], [], []
    for row in rows:
        goes_on = row.back and runs.generation_at.get(row.position - row.back) == row.generation
        back.append(row.back if goes_on else 0)
        if not goes_on:
            begins.append(row.position - row.generation)
            begins_back.append(row.back)
        frame.append(row.frame - runs.next_frame.get(row.generation, 1))
        offset.append(row.offset_us - runs.offset_us(row.generation))
        runs.pass_on(row.position, row.generation, row.frame + row.count, row.offset_us)
    return b"".join(
        (
            *map(numbers, (back, begins, begins_back, folded(frame), folded(offset))),
            numbers([row.count for row in rows]),
            numbers([row.codec for row in rows]),
            _contents(rows),
        )
    )


def unpacked(columns: ColumnReader, positions: Sequence[int]) -> list[RecordedFrames]:
    """The rows again, at these positions."""
    back, begins, begins_back = columns.numbers(), iter(columns.numbers()), iter(columns.numbers())
    frame, offset = unfolded(columns.numbers()), unfolded(columns.numbers())
    count, codec = columns.numbers(), columns.numbers()
    runs, found = _Runs(), []
    for number, position in enumerate(positions):
        distance = back[number]
        generation = runs.generation_at[position - distance] if distance else position - next(begins)
        first = frame[number] + runs.next_frame.get(generation, 1)
        offset_us = offset[number] + runs.offset_us(generation)
        runs.pass_on(position, generation, first + count[number], offset_us)
        distance = distance or next(begins_back)
        found.append(
            RecordedFrames(position, generation, distance, first, count[number], offset_us, codec[number], b"")
        )
    return _filled(found, columns)


def _contents(rows: Sequence[RecordedFrames]) -> bytes:
    """How many pieces each row has beside one a frame, whether each is the middle of a frame, and the pieces."""
    more, middle, pieces = [], [], []
    for row in _in_runs(rows):
        parts = row.bytes.split(RS)
        more.append(len(parts) - row.count)
        middle += [part.startswith(US) for part in parts]
        pieces += [part.removeprefix(US) for part in parts]
    return numbers(folded(more)) + numbers(middle) + texts(pieces)


def _filled(rows: list[RecordedFrames], columns: ColumnReader) -> list[RecordedFrames]:
    more, middle = unfolded(columns.numbers()), columns.numbers()
    pieces = zip(middle, columns.texts(), strict=True)
    filled = [
        RecordedFrames(
            row.position,
            row.generation,
            row.back,
            row.frame,
            row.count,
            row.offset_us,
            row.codec,
            RS.join([US + piece if is_middle else piece for is_middle, piece in islice(pieces, row.count + beside)]),
        )
        for row, beside in zip(_in_runs(rows), more, strict=True)
    ]
    return sorted(filled, key=lambda row: row.position)


def _in_runs(rows: Sequence[RecordedFrames]) -> list[RecordedFrames]:
    return sorted(rows, key=lambda row: row.generation)
