"""Moving what is old into segments, and dropping segments: in small steps. Each may be the last before a crash.

    choose  ->  write the file (durable, read back)  ->  compare it with the log  ->  seal: event, deletes, one commit
            ->  the next segment …  ->  give the free pages back

Until the seal is committed the rows are live and the file is nobody's; from then on they are read from the file. Begun
again after a crash it clears away what nobody reads, and goes on behind the last seal.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from hashlib import file_digest
from itertools import zip_longest
from pathlib import Path

from eventstore.archive import DIRECTORY, SegmentReader, write_segment
from eventstore.archived import Span, file_of
from eventstore.envelope import NewEvent, Recorded, RecordedEvent
from eventstore.errors import LogCorrupt
from eventstore.reader import Reader
from eventstore.sealing import Dropping, Sealing
from eventstore.sqlite import SQLiteLog

SEGMENT_ROWS = 65_536
"""Rows of both lanes that one segment holds at most: they are deleted in one commit, for which appends wait."""

_NAME = re.compile(r"\d+-(\d+)\.segment(?:\.damaged)?")
"""Of a segment's file; `through` is in it."""

LeavesOpen = Callable[[RecordedEvent], bool]
"""Whether after this event its stream is to be gone on with, so that it must not be archived yet."""

Keep = Callable[[int], Awaitable[None]]
"""Makes what is to remain of the rows up to a position durable."""


@dataclass(frozen=True, slots=True)
class Written:
    """A segment that lies in its file: name, sha256 in hex, positions, counts, and its last event's digest in hex."""

    name: str
    digest: str
    first: int
    through: int
    events: int
    frames: int
    head_digest: str
    size: int


class Archiving:
    """Works on one log and its data directory, one call at a time. `said` makes the event of a segment that was
    written, `said_dropped` that of names dropped and the position through which they went."""

    segment_rows = SEGMENT_ROWS

    def __init__(
        self,
        log: SQLiteLog,
        data_dir: Path,
        leaves_open: LeavesOpen,
        said: Callable[[Written], NewEvent],
        said_dropped: Callable[[list[str], int], NewEvent],
    ) -> None:
        self._log, self._data_dir, self._leaves_open = log, data_dir, leaves_open
        self._said, self._said_dropped = said, said_dropped

    async def archive(self, until: int) -> list[Written]:
        """Archive rows up to a position, or as far as no stream is left open; what was written, in order.

        Raises `OSError` where the disk refuses the files, `LogCorrupt` where log or file are not as they should be."""
        await asyncio.to_thread(self._tidy)
        sealed, until = await asyncio.to_thread(self._choose, until)
        done = []
        for first in range(sealed + 1, until + 1, self.segment_rows):
            written = await asyncio.to_thread(self._write, first, min(first + self.segment_rows - 1, until))
            await asyncio.to_thread(self._prove, written)
            await self._seal(written)
            done.append(written)
        while await self._log.shrink():
            pass
        return done

    async def drop(self, until: int, folded: int, keep: Keep) -> list[str]:
        """Delete the files of segments that end at or before `until` and before `folded`, the last event that has been
        folded into everything made of the log, durably. Before that `keep` has to keep what is made of them; where it
        raises, nothing is dropped. The names of those deleted. Raises `OSError`."""
        with Reader(self._data_dir) as reader:
            spans = [span for span in reader.segments() if self._may_go(span, until, folded)]
        if spans:
            names = [file_of(self._data_dir, span).name for span in spans]
            through = spans[-1][1]
            await keep(through)
            await self._log.drop(Dropping(through, self._said_dropped(names, through)))
        else:
            names = []
        await asyncio.to_thread(self._tidy)
        return names

    def _may_go(self, segment: Span, until: int, folded: int) -> bool:
        return segment[1] <= until and segment[1] < folded

    def _choose(self, until: int) -> tuple[int, int]:
        """The position behind which to begin, and that up to which every stream is ended."""
        left_open: dict[str, int] = {}
        with Reader(self._data_dir) as reader:
            sealed, head = reader.sealed(), reader.head()
            until = min(until, head)
            for event in reader.events(sealed):
                if event.position > until and not left_open:
                    break
                if not self._leaves_open(event):
                    left_open.pop(event.stream, None)
                elif event.position <= until:
                    left_open.setdefault(event.stream, event.position)
        return sealed, min([until, *(position - 1 for position in left_open.values())])

    def _write(self, first: int, through: int) -> Written:
        path = file_of(self._data_dir, (first, through))
        if path.exists():  # of a log that went on otherwise: this one was set back to an older copy
            path.replace(path.with_name(f"{path.name}.before"))
        with Reader(self._data_dir) as reader:
            last = _Last(reader.rows(first - 1, until=through))
            made = write_segment(path, last)
        if (made.first, made.through) != (first, through):
            raise LogCorrupt(made.through, f"rows {first} to {through} are not all there")
        with path.open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
        return Written(path.name, digest, first, through, made.events, made.frames, last.digest, size)

    def _prove(self, written: Written) -> None:
        """Raises `LogCorrupt` unless the file, under the name that it will be read by, holds the very rows."""
        span = written.first, written.through
        with Reader(self._data_dir) as reader, SegmentReader(file_of(self._data_dir, span)) as archived:
            archived.verify()
            if not _is_same(archived, reader):
                raise LogCorrupt(written.first, f"{written.name} does not hold the rows of the log")

    async def _seal(self, written: Written) -> None:
        digest = bytes.fromhex(written.digest)
        await self._log.seal(Sealing(written.first, written.through, digest, self._said(written)))

    def _tidy(self) -> None:
        """Delete files that nobody reads: what was dropped, and what was never sealed and is still in the log."""
        with Reader(self._data_dir) as reader:
            known = {file_of(self._data_dir, span) for span in reader.segments()}
            for path in sorted((self._data_dir / DIRECTORY).glob("*.segment*")):
                if path not in known and _is_needless(path, reader):
                    path.unlink(missing_ok=True)


class _Last:
    """Passes rows on and remembers the last event's digest."""

    def __init__(self, rows: Iterator[Recorded]) -> None:
        self._rows = rows
        self.digest = ""

    def __iter__(self) -> Iterator[Recorded]:
        for row in self._rows:
            if isinstance(row, RecordedEvent):
                self.digest = row.digest.hex()
            yield row


def position_before(reader: Reader, at: int) -> int:
    """The last position before the first event that was recorded at or after `at` (microseconds since 1970 UTC); the
    head where there is none. Events that were pulled back lie where they were taken in."""
    low, high = reader.dropped(), reader.head()
    while low < high:
        middle = (low + high) // 2
        event = next(reader.events(middle), None)
        if event is not None and event.at < at:
            low = event.position
        else:
            high = middle
    return low


def _is_needless(path: Path, reader: Reader) -> bool:
    """A file that was not finished; one whose rows were dropped, a damaged one and what a repair kept of it too; one
    whose every row the log has elsewhere."""
    if path.suffix == ".partial":
        return True
    if (named := _NAME.fullmatch(path.name)) and int(named[1]) <= reader.dropped():
        return True
    if path.suffix != ".segment":
        return False
    try:
        with SegmentReader(path) as archived:
            return _is_same(archived, reader)
    except LogCorrupt:
        return False  # not ours to judge


def _is_same(archived: SegmentReader, reader: Reader) -> bool:
    span = archived.segment
    return all(a == b for a, b in zip_longest(archived.rows(), reader.rows(span.first - 1, until=span.through)))
