"""The archived part of a log as one: which files it has, and what a reader asks of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from hashlib import file_digest
from pathlib import Path

from eventstore.archive import DIRECTORY, SegmentReader
from eventstore.envelope import Recorded, RecordedEvent, RecordedFrames
from eventstore.errors import LogCorrupt

KEPT_OPEN = 4
"""Segments whose index stays in memory."""

Span = tuple[int, int]
"""A segment's first and last position."""


def file_of(data_dir: Path, segment: Span) -> Path:
    """Where a segment lies. Names sort by position."""
    return data_dir / DIRECTORY / f"{segment[0]:015d}-{segment[1]:015d}.segment"


class Archive:
    """Reads segments of one data directory. Which ones there are it is told: the live database knows. One thread at a
    time. Raises `LogCorrupt` where a file is missing or not as it was written."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._open: OrderedDict[Span, SegmentReader] = OrderedDict()

    def read(self, segments: Sequence[Span], after: int, until: int, limit: int, frames: bool) -> list[Recorded]:
        """As `Log.read`; fewer rows than `limit` only where these segments have no more."""
        found: list[Recorded] = []
        for row in self._rows(segments, after):
            if row.position > until or len(found) == limit:
                break
            if frames or isinstance(row, RecordedEvent):
                found.append(row)
        return found

    def read_stream(self, segments: Sequence[Span], stream: str, after: int) -> list[RecordedEvent]:
        """As `Log.read_stream`."""
        return [event for segment in segments for event in self._reader(segment).read_stream(stream, after)]

    def read_frames(self, segments: Sequence[Span], generation: int, until: int, after: int) -> list[RecordedFrames]:
        """As `Log.read_frames`."""
        return [row for segment in segments for row in self._reader(segment).read_frames(generation, until, after)]

    def damage(self, segment: Span, digest: bytes) -> str | None:
        """What is wrong with a segment's file, whose sha256 should be `digest`; every byte is read."""
        path = file_of(self._data_dir, segment)
        try:
            with path.open("rb") as file:
                if file_digest(file, "sha256").digest() != digest:
                    return f"{path.name} is not the file that was sealed"
            with SegmentReader(path) as reader:
                reader.verify()
        except (OSError, LogCorrupt) as error:
            return str(error)
        return None

    def close(self) -> None:
        """Let go of the files."""
        while self._open:
            self._open.popitem()[1].close()

    def _rows(self, segments: Sequence[Span], after: int) -> Iterator[Recorded]:
        for segment in segments:
            if segment[1] > after:
                yield from self._reader(segment).rows(after)

    def _reader(self, segment: Span) -> SegmentReader:
        reader = self._open.get(segment)
        if reader is not None and not reader.is_current():
            self._open.pop(segment).close()
            reader = None
        if reader is None:
            reader = self._open[segment] = self._opened(segment)
            if len(self._open) > KEPT_OPEN:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(segment)
        return reader

    def _opened(self, segment: Span) -> SegmentReader:
        path = file_of(self._data_dir, segment)
        try:
            reader = SegmentReader(path)
        except FileNotFoundError as error:
            raise LogCorrupt(segment[0], f"the archived segment {path.name} is missing") from error
        if (reader.segment.first, reader.segment.through) != segment:
            reader.close()
            raise LogCorrupt(segment[0], f"{path.name} holds other positions than its name says")
        return reader
