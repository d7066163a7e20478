"""Bugs put in on purpose (see `tests/spoilt.py`): releases that mind the newest format only, or an old one wrongly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from eventstore import repair_archive
from eventstore.archive import write_segment
from eventstore.archive_format import FIRST, FORMATS, NEWEST
from eventstore.envelope import Recorded, RecordedEvent


def newest_alone() -> None:
    """Segments of the first format are not read any more."""
    del FORMATS[FIRST.magic]


def newest_names() -> None:
    """Streams are looked for in the first format's index as in the newest's."""
    FORMATS[FIRST.magic] = replace(FIRST, key=NEWEST.key)


def other_times() -> None:
    """The first format's blocks are written with times of their own."""
    packed = FIRST.packed

    def later(rows: Sequence[Recorded]) -> bytes:
        return packed([replace(row, at=row.at + 1) if isinstance(row, RecordedEvent) else row for row in rows])

    setattr(FIRST, "packed", later)  # noqa: B010


def repaired_anew() -> None:
    """A file is made again in the newest format, whatever it had."""
    setattr(repair_archive, "FORMATS", {NEWEST.magic: NEWEST})  # noqa: B010


def archived_anew() -> None:
    """What is archived now is written in the first format."""
    setattr(write_segment, "__defaults__", (FIRST,))  # noqa: B010


BUGS = {bug.__name__: bug for bug in (newest_alone, newest_names, other_times, repaired_anew, archived_anew)}
