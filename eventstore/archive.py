"""Archived segments on the disk: written durably, read back before anything relies on them, and read by request."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from types import TracebackType

from eventstore.archive_format import FOOTER, MAGIC_LENGTH, NEWEST, Format, Segment, pack, segment, unpack
from eventstore.envelope import Recorded, RecordedEvent, RecordedFrames
from eventstore.errors import LogCorrupt
from eventstore.syncing import sync_names

DIRECTORY = "archive"
"""Of the data directory."""


class SegmentReader:
    """One segment's file. Its index is read and checked at once, its blocks as they are asked for; used as a context.

    Every method raises `LogCorrupt` where what it reads is not what was written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb")
        self._kept: tuple[int, list[Recorded]] = (-1, [])
        """The block that was read last: pages are smaller than blocks."""
        try:
            self.segment: Segment = self._index()
        except BaseException:
            self._file.close()
            raise

    def rows(self, after: int = 0) -> Iterator[Recorded]:
        """Every row behind `after`, in order of position."""
        for number, block in enumerate(self.segment.blocks):
            if block.last > after:
                yield from self._rows_of(number)[max(0, after + 1 - block.first) :]  # a block leaves no position out

    def read_stream(self, stream: str, after: int = 0) -> list[RecordedEvent]:
        """As `Log.read_stream`, of what lies here; only the blocks that hold the stream are read."""
        found = (row for number in self.segment.blocks_of(stream) for row in self._rows_of(number))
        return [row for row in found if isinstance(row, RecordedEvent) and row.stream == stream and row.version > after]

    def read_frames(self, generation: int, until: int, after: int = 0) -> list[RecordedFrames]:
        """As `Log.read_frames`, of what lies here; only the blocks that hold the run there are read."""
        numbers = [
            number
            for number in self.segment.blocks_of_run(generation)
            if self.segment.blocks[number].last > after and self.segment.blocks[number].first <= until
        ]
        found = (row for number in numbers for row in self._rows_of(number))
        return [
            row
            for row in found
            if isinstance(row, RecordedFrames) and row.generation == generation and after < row.position <= until
        ]

    def verify(self) -> None:
        """Read the whole file. Raises `LogCorrupt` unless every byte of it is as it was written."""
        at = MAGIC_LENGTH
        for number, block in enumerate(self.segment.blocks):
            if block.offset != at:
                raise LogCorrupt(block.first, f"{self.path.name}: a block is at {block.offset} instead of {at}")
            self._block(number)
            at += block.length
        if at != self._index_at:
            raise LogCorrupt(self.segment.through, f"{self.path.name}: bytes that belong to no block")

    def is_current(self) -> bool:
        """Whether no other file has taken this one's name: a damaged one may have been made anew."""
        try:
            return self.path.stat().st_ino == os.fstat(self._file.fileno()).st_ino
        except FileNotFoundError:
            return True

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _index(self) -> Segment:
        size = self.path.stat().st_size
        if size < MAGIC_LENGTH + FOOTER.size:
            raise LogCorrupt(0, f"{self.path.name} is too short for an archived segment")
        offset, length, digest, magic = FOOTER.unpack(self._at(size - FOOTER.size, FOOTER.size))
        if offset + length + FOOTER.size != size:
            raise LogCorrupt(0, f"{self.path.name}: its footer does not agree with its size")
        packed, begin = self._at(offset, length), self._at(0, MAGIC_LENGTH)
        if begin != magic or sha256(begin + packed).digest() != digest:
            raise LogCorrupt(0, f"{self.path.name}: its index is damaged")
        self._index_at = offset
        return segment(begin, packed)

    def _rows_of(self, number: int) -> list[Recorded]:
        if self._kept[0] != number:
            self._kept = number, self._block(number)
        return self._kept[1]

    def _block(self, number: int) -> list[Recorded]:
        block = self.segment.blocks[number]
        return unpack(self.segment.format, block, self._at(block.offset, block.length))

    def _at(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(length)

    def __enter__(self) -> SegmentReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write_segment(path: Path, rows: Iterable[Recorded], written: Format = NEWEST) -> Segment:
    """Write rows in order of position to `path`, durably, and read the file back: when this returns, the rows are there
    after a power cut too. Until then there is at most `<path>.partial`, which the next attempt replaces.

    Raises `OSError`, `LogCorrupt` (a position is missing, or the file gave back something else), `ValueError` (no
    rows).
    """
    partial = path.with_name(path.name + ".partial")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.writelines(pack(rows, written))
        file.flush()
        os.fsync(file.fileno())
    with SegmentReader(partial) as reader:
        reader.verify()
        found = reader.segment
    partial.replace(path)
    sync_names(path.parent)
    sync_names(path.parent.parent)
    return found
