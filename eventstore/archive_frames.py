"""The frames of an archived block as columns. Pure.

What can be told from the rows before is not written: a run's generation and the number of its next frame. When frames
came is written as the difference from when they should have, were they to come with the row before: rows lie in the
order in which they came. Of each run what its rows hold stands together, without what separates frames: in this order
it is the text of the answer, as the event at its end has it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from eventstore.columns import ColumnReader, folded, numbers, texts, unfolded
from eventstore.envelope import RecordedFrames
from eventstore.frames import RS, US


def packed(rows: Sequence[RecordedFrames]) -> bytes:
    """The columns."""
    generations, counts = [row.generation for row in rows], [row.count for row in rows]
    return b"".join(
        (
            _links(rows),
            numbers(counts),
            numbers(folded(_surprises(generations, [row.frame for row in rows], counts))),
            numbers(folded(_lateness(generations, [row.offset_us for row in rows]))),
            numbers([row.codec for row in rows]),
            _contents(rows, generations),
        )
    )


def unpacked(columns: ColumnReader, positions: Sequence[int]) -> list[RecordedFrames]:
    """The rows again, at these positions."""
    generations, backs = _linked(columns, positions)
    counts = columns.numbers()
    frames = _numbered(generations, unfolded(columns.numbers()), counts)
    offsets = _timed(generations, unfolded(columns.numbers()))
    codecs = columns.numbers()
    contents = _filled(columns, generations, counts)
    return list(map(RecordedFrames, positions, generations, backs, frames, counts, offsets, codecs, contents))


def _links(rows: Iterable[RecordedFrames]) -> bytes:
    """How far back a row's run goes on, 0 where it begins here; and of those that do the generation, as a distance, and
    how far back they go on before this block."""
    generation_at: dict[int, int] = {}
    back, begins, begins_back = [], [], []
    for row in rows:
        goes_on = row.back > 0 and generation_at.get(row.position - row.back) == row.generation
        back.append(row.back if goes_on else 0)
        if not goes_on:
            begins.append(row.position - row.generation)
            begins_back.append(row.back)
        generation_at[row.position] = row.generation
    return numbers(back) + numbers(begins) + numbers(begins_back)


def _linked(columns: ColumnReader, positions: Iterable[int]) -> tuple[list[int], list[int]]:
    """Each row's generation, and how far back its run goes on."""
    backs, begins, begins_back = columns.numbers(), iter(columns.numbers()), iter(columns.numbers())
    generation_at: dict[int, int] = {}
    for number, position in enumerate(positions):
        if back := backs[number]:
            generation_at[position] = generation_at[position - back]
        else:
            generation_at[position] = position - next(begins)
            backs[number] = next(begins_back)
    return list(generation_at.values()), backs


def _surprises(generations: Iterable[int], frames: Iterable[int], counts: Iterable[int]) -> list[int]:
    """How much each row's frame differs from the next one of its run; a run begins with 1."""
    due: dict[int, int] = {}
    found = []
    for generation, frame, count in zip(generations, frames, counts, strict=True):
        found.append(frame - due.get(generation, 1))
        due[generation] = frame + count
    return found


def _numbered(generations: Iterable[int], surprises: Iterable[int], counts: Iterable[int]) -> list[int]:
    due: dict[int, int] = {}
    found = []
    for generation, surprise, count in zip(generations, surprises, counts, strict=True):
        frame = due.get(generation, 1) + surprise
        found.append(frame)
        due[generation] = frame + count
    return found


def _lateness(generations: Iterable[int], offsets: Iterable[int]) -> list[int]:
    """How much later each row came than the one before it, in microseconds. When a run began is not known, so its first
    row here is taken to have come with the one before it, and its offset is written."""
    begun: dict[int, int] = {}
    clock, found = 0, []
    for generation, offset in zip(generations, offsets, strict=True):
        due = clock - begun.get(generation, clock)
        found.append(offset - due)
        clock = begun.setdefault(generation, clock - offset) + offset
    return found


def _timed(generations: Iterable[int], lateness: Iterable[int]) -> list[int]:
    begun: dict[int, int] = {}
    clock, found = 0, []
    for generation, late in zip(generations, lateness, strict=True):
        offset = clock - begun.get(generation, clock) + late
        found.append(offset)
        clock = begun.setdefault(generation, clock - offset) + offset
    return found


def _contents(rows: Sequence[RecordedFrames], generations: Sequence[int]) -> bytes:
    """How many pieces each row has beside one a frame, whether each is the middle of a frame, and the pieces."""
    more, middle, pieces = [], [], []
    for number in _in_runs(generations):
        parts = rows[number].bytes.split(RS)
        more.append(len(parts) - rows[number].count)
        middle += [part.startswith(US) for part in parts]
        pieces += [part.removeprefix(US) for part in parts]
    return numbers(folded(more)) + numbers(middle) + texts(pieces)


def _filled(columns: ColumnReader, generations: Sequence[int], counts: Sequence[int]) -> list[bytes]:
    more, middle = unfolded(columns.numbers()), columns.numbers()
    pieces = [US + piece if is_middle else piece for is_middle, piece in zip(middle, columns.texts(), strict=True)]
    contents, at = [b""] * len(generations), 0
    for number, beside in zip(_in_runs(generations), more, strict=True):
        end = at + counts[number] + beside
        contents[number] = RS.join(pieces[at:end])
        at = end
    return contents


def _in_runs(generations: Sequence[int]) -> list[int]:
    """The numbers of the rows, run by run."""
    return sorted(range(len(generations)), key=generations.__getitem__)
