"""Bugs put in on purpose (see `tests/spoilt.py`): readers that mind the live rows only, or most of what is archived."""

from __future__ import annotations

from eventstore.envelope import RecordedEvent, RecordedFrames
from eventstore.reader import Reader


def live_streams() -> None:
    """A request's archived events are not looked for."""

    def none(self: Reader, stream: str, after: int) -> tuple[list[RecordedEvent], int]:
        return [], after

    setattr(Reader, "_archived_stream", none)  # noqa: B010


def live_frames() -> None:
    """Nor are the frames of its answer."""
    found = Reader.read_frames

    def live(self: Reader, generation: int, until: int, after: int = 0) -> list[RecordedFrames]:
        return [row for row in found(self, generation, until, after) if row.position > self.sealed()]

    setattr(Reader, "read_frames", live)  # noqa: B010


def live_rows() -> None:
    """What goes through the whole log begins behind its archive."""
    read = Reader._archived

    def skipped(
        self: Reader, after: int, until: int, size: int, frames: bool
    ) -> tuple[list[RecordedEvent | RecordedFrames], int]:
        return [], read(self, after, until, size, frames)[1]

    setattr(Reader, "_archived", skipped)  # noqa: B010


BUGS = {bug.__name__: bug for bug in (live_streams, live_frames, live_rows)}
