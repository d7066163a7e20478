"""Making an archive's damaged or missing files anew, to the byte: what their sound blocks hold, and copies of the rest.

Segments are gone through in order, since each goes on with the chains and runs of those before. `events.db` knows the
sha256 that a file had: what is made has it, or is not put in its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import file_digest
from pathlib import Path

from eventstore.archive import SegmentReader, write_segment
from eventstore.archive_ends import ArchiveEnds
from eventstore.archive_format import FORMATS, Format
from eventstore.archived import Span, file_of
from eventstore.envelope import Recorded, RecordedEvent, RecordedFrames
from eventstore.errors import LogCorrupt
from eventstore.reader import Reader
from eventstore.repair import Before, Copies, Kept, Mended, mend_events, mend_frames, missing
from eventstore.repair_file import put_in_place
from eventstore.verify import RunOf


@dataclass(slots=True)
class MendedArchive:
    """What lies `before` the live rows, for these to be mended, and where streams and chains end there; the files that
    were made (where each lies, where it belongs), the positions of rows that were not in them, and what could not be
    found again, a sentence each."""

    before: Before
    ends: ArchiveEnds
    made: list[tuple[Path, Path]] = field(default_factory=list)
    events: list[int] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def put_in_place(self) -> None:
        """One file after the other; each may be the last before a crash. Raises `OSError`."""
        for made, path in self.made:
            put_in_place(made, path)


def mend_archive(data_dir: Path, aside: Path, copies: Copies, run_of: RunOf) -> MendedArchive:
    """Find out what of the archive is damaged, and make it anew in the directory `aside`. Ends with the first file that
    cannot be made. Raises `OSError`, `LogError` where `events.db` does not say what there is."""
    with Reader(data_dir) as reader:
        dropped = reader.dropped()
        found = MendedArchive(Before.dropped_at(dropped, copies, run_of), ArchiveEnds(reader.sealed(), dropped))
        damaged = dict(reader.segment_damages())
        for segment in reader.segments():
            path = file_of(data_dir, segment)
            if segment[0] not in damaged:
                _pass(path, found, run_of)
                continue
            mended = _mended(path, segment, copies, found.before, run_of)
            if not mended.lost:
                _make(aside / path.name, path, reader.segment_digest(segment), mended, found)
            found.lost += mended.lost
            if found.lost:
                break
            _go_on(_in_order(mended), found, run_of)
    return found


def _pass(path: Path, found: MendedArchive, run_of: RunOf) -> None:
    with SegmentReader(path) as whole:
        _go_on(whole.rows(), found, run_of)


def _go_on(rows: Iterable[Recorded], found: MendedArchive, run_of: RunOf) -> None:
    for row in rows:
        found.before.add(row, run_of)
        found.ends.add(row)


def _mended(path: Path, segment: Span, copies: Copies, before: Before, run_of: RunOf) -> Mended:
    mended = Mended(segment[0] - 1, segment[1])
    rows = sound_rows(path)
    events = [Kept(row.position, row.data, row.digest) for row in rows if isinstance(row, RecordedEvent)]
    mend_events(events, copies, mended, before)
    mend_frames([row for row in rows if isinstance(row, RecordedFrames)], copies, run_of, mended, before)
    mended.lost += [f"{path.name}: {what}" for what in missing(mended)]
    return mended


def _make(made: Path, path: Path, digest: bytes, mended: Mended, found: MendedArchive) -> None:
    if not any(_is_made(made, mended, digest, known) for known in FORMATS.values()):
        mended.lost.append(f"{path.name}: its rows are there, but do not make the file that was sealed")
        return
    found.made.append((made, path))
    found.events += mended.changed_events
    found.frames += mended.changed_frames


def _is_made(made: Path, mended: Mended, digest: bytes, written: Format) -> bool:
    write_segment(made, _in_order(mended), written)
    with made.open("rb") as file:
        return file_digest(file, "sha256").digest() == digest


def _in_order(mended: Mended) -> Iterator[Recorded]:
    rows: dict[int, Recorded] = {**mended.events, **mended.frames}
    return (rows[position] for position in sorted(rows))


def sound_rows(path: Path) -> list[Recorded]:
    """The rows of a segment's file that are as they were written; none where there is no file, or no index in it."""
    try:
        with closing(_Salvage(path)) as salvage:
            return list(salvage.sound())
    except (OSError, LogCorrupt):
        return []


class _Salvage(SegmentReader):
    def sound(self) -> Iterator[Recorded]:
        for number in range(len(self.segment.blocks)):
            try:
                yield from self._rows_of(number)
            except LogCorrupt:
                continue  # as if they were not there: they are looked for elsewhere
