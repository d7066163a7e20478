"""Reading the log's file synchronously: for other processes and for tools, beside a running server or without one."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from eventstore import rows
from eventstore.archive import DIRECTORY
from eventstore.archived import Archive, Span
from eventstore.blobs import checked_blob, damage
from eventstore.database import VERSION
from eventstore.envelope import Recorded, RecordedEvent, RecordedFrames
from eventstore.errors import LogCorrupt, LogUnavailable
from eventstore.wal import has_content

T = TypeVar("T")
ALL = 1 << 62
"""An `until` that is past every position."""
SEGMENTS = 4
"""Archived segments that one page is looked for in at once."""
BLOBS = 16
"""Blobs in memory at once, each of any size."""
STRUCTURE = 20
LAST = "\U0010ffff"
"""Behind every character."""


class Reader:
    """A read-only view of `path` (`events.db`, or the data directory that holds it) and of the archive beside it, as
    one log. One thread at a time. `proving`: the events of a stream are compared with their digests.

    Works while a server writes, after it was killed, and when it is stopped. Every method is one short transaction a
    page; it never writes and never checkpoints. Raises `LogUnavailable` where there is no log to read,
    `LogCorrupt` where SQLite finds it damaged.
    """

    _sealed = 0
    """As it was when last asked; it only grows."""

    def __init__(self, path: Path | str, *, proving: bool = False) -> None:
        path = Path(path)
        self.path = path / rows.FILE if path.is_dir() else path
        self._archive, self._proving = Archive(self.path.parent), proving
        self._connection = _opened(self.path)

    def read(self, after: int, limit: int, *, until: int | None = None, frames: bool = True) -> list[Recorded]:
        """As `Log.read`."""
        found: list[Recorded] = []
        until = ALL if until is None else until
        while len(found) < limit and after < until:
            size = min(rows.PAGE, limit - len(found))
            if after < self._sealed:
                page, after = self._archived(after, min(until, self._sealed), size, frames)
            else:
                page = self._live(after, until, size, frames)
                if self.sealed() > after:
                    continue  # rows have left since: what this page lacks is archived now
                if len(page) < size:
                    return found + page
                after = rows.further(after, page[-1].position)
            found += page
        return found

    def _archived(self, after: int, until: int, size: int, frames: bool) -> tuple[list[Recorded], int]:
        """Rows of the next few segments, and the position up to which these are all."""

        def found(segments: list[Span]) -> tuple[list[Recorded], int]:
            if not segments:
                return [], until  # dropped
            page = self._archive.read(segments, after, until, size, frames)
            return page, page[-1].position if len(page) == size else min(segments[-1][1], until)

        return self._in_segments(found, after, until, SEGMENTS)

    def _live(self, after: int, until: int, size: int, frames: bool) -> list[Recorded]:
        sql = rows.BOTH_LANES if frames else rows.LEDGER
        return [rows.recorded(row) for row in self._fetch(sql, {"after": after, "until": until, "limit": size})]

    def rows(self, after: int = 0, *, until: int | None = None, frames: bool = True) -> Iterator[Recorded]:
        """Every row with `after < position <= until`, a page at a time; ends at the head."""
        while page := self.read(after, rows.PAGE, until=until, frames=frames):
            yield from page
            after = rows.further(after, page[-1].position)

    def events(self, after: int = 0, *, until: int | None = None) -> Iterator[RecordedEvent]:
        """The same of the ledger alone."""
        return (row for row in self.rows(after, until=until, frames=False) if isinstance(row, RecordedEvent))

    def read_stream(self, stream: str, after: int = 0) -> list[RecordedEvent]:
        """As `Log.read_stream`."""
        while True:
            sealed = self.sealed()
            found, before = self._archived_stream(stream, after) if sealed else ([], after)
            live = self._live_stream(stream, before)
            if self.sealed() == sealed:  # else rows have left between the two, and there is a gap that is no damage
                return found + self._events(live, before)

    def _archived_stream(self, stream: str, after: int) -> tuple[list[RecordedEvent], int]:
        """Its events behind a version, and the version from which the live ones go on: of dropped ones it is known."""
        ends = self._fetch(rows.ARCHIVED_STREAM, {"stream": stream})
        if not ends or ends[0][0] <= after:
            return [], after
        version, first, last = ends[0]
        found = self._in_segments(lambda found: self._archive.read_stream(found, stream, after), first - 1, last)
        return found, found[-1].version if found else version

    def _live_stream(self, stream: str, after: int) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        sql = rows.PROVEN_STREAM if self._proving else rows.STREAM
        while True:
            page = self._fetch(sql, {"stream": stream, "after": after, "limit": rows.PAGE})
            found += page
            if len(page) < rows.PAGE:
                return found
            after = rows.further(after, page[-1][rows.VERSION])

    def _events(self, found: list[tuple[Any, ...]], after: int) -> list[RecordedEvent]:
        return rows.proven(found, after) if self._proving else [RecordedEvent(*row) for row in found]

    def read_frames(self, generation: int, until: int, after: int = 0) -> list[RecordedFrames]:
        """As `Log.read_frames`."""
        while True:
            sealed, found = self.sealed(), []
            begin = max(generation, after)
            if begin < sealed:
                found = self._in_segments(
                    lambda segments: self._archive.read_frames(segments, generation, until, after),
                    begin,
                    min(until, sealed),
                )
            if until > sealed:
                live = self._fetch(rows.RUN, {"generation": generation, "until": until, "after": after})
                found += [RecordedFrames(*row) for row in live]
            if self.sealed() == sealed:
                return found

    def read_blob(self, digest: bytes) -> bytes:
        """As `Log.read_blob`."""
        page = self._fetch(rows.BLOB, {"digest": digest})
        return checked_blob(digest, page[0] if page else None)

    def blob_damages(self) -> Iterator[str]:
        """What is wrong with the blobs, a sentence each; every one is read."""
        after = 0
        while page := self._fetch(rows.BLOBS, {"after": after, "limit": BLOBS}):
            for _, *blob in page:
                if what := damage(*blob):
                    yield what
            after = rows.further(after, page[-1][0])

    def structure(self) -> list[str]:
        """What SQLite finds wrong with the file's pages and indexes, at most `STRUCTURE` sentences. One long read: the
        write-ahead log of a running server grows meanwhile."""
        found = [what for (what,) in self._fetch(f"PRAGMA integrity_check({STRUCTURE})", {})]
        return [] if found == ["ok"] else found

    def head(self) -> int:
        """The position of the last row, 0 for an empty log."""
        return int(self._fetch(rows.HEAD, {})[0][0])

    def sealed(self) -> int:
        """The position up to which rows have moved into the archive; 0 where all are live."""
        self._sealed = int(self._fetch(rows.SEALED, {})[0][0])
        return self._sealed

    def dropped(self) -> int:
        """The position up to which the archive was dropped: what there is begins behind it."""
        return int(self._fetch(rows.DROPPED, {})[0][0]) if self.sealed() else 0

    def node_known(self) -> bool:
        """Whether the node's id in the file is the one that its incarnations begin with."""
        return bool(self._fetch(rows.NODE_KNOWN, {})[0][0])

    def snapshot(self) -> tuple[Path, str] | None:
        """What the last drop left in place of what it dropped: a file in the archive, and its sha256 in hex, as the
        event of the drop says. None where nothing was dropped, or nothing was left. Raises `LogCorrupt` where the event
        is not what was written."""
        found = self._fetch(rows.LAST_DROP, {}) if self.sealed() else []
        if not found:
            return None
        (position,) = found[0]
        for event in self.read(position - 1, 1, until=position, frames=False):
            if isinstance(event, RecordedEvent):
                return self._left_by(event)
        raise LogCorrupt(position, "the event that says what was dropped is not there")

    def _left_by(self, drop: RecordedEvent) -> tuple[Path, str] | None:
        try:
            name, digest = drop.body.get("snapshot"), drop.body.get("snapshot_digest", "")
        except (ValueError, AttributeError) as error:
            raise LogCorrupt(drop.position, "the event that says what was dropped cannot be read") from error
        return (self.path.parent / DIRECTORY / Path(name).name, digest) if name else None

    def segments(self) -> list[Span]:
        """First and last position of every archived segment, in order."""
        return self._segments(0, ALL) if self.sealed() else []

    def segment_damages(self) -> Iterator[tuple[int, str]]:
        """Where the archive's files begin that are not as they were sealed, and what is wrong; every byte is read."""
        for segment in self.segments():
            what = self._archive.damage(segment, self.segment_digest(segment))
            if what and segment in self.segments():  # else it was dropped meanwhile
                yield segment[0], what

    def segment_digest(self, segment: Span) -> bytes:
        """The sha256 of an archived segment's file when it was sealed."""
        ((digest,),) = self._fetch(rows.SEGMENT_DIGEST, {"first": segment[0]})
        return bytes(digest)

    def archived_streams(self) -> Iterator[tuple[str | None, tuple[Any, Any]]]:
        """What is known of every stream with archived events: its name, (first position,), (last position, version)."""
        for _, name, first, last, version in self._paged(rows.ARCHIVED_STREAMS):
            yield name, ((first,), (last, version))

    def archived_chains(self) -> Iterator[tuple[str | None, tuple[Any, Any]]]:
        """The same of origins: the name, (first position, its oseq), (last position, its oseq, its digest)."""
        for _, name, first, first_oseq, last, oseq, digest in self._paged(rows.ARCHIVED_CHAINS):
            yield name, ((first, first_oseq), (last, oseq, digest))

    def _paged(self, sql: str) -> Iterator[tuple[Any, ...]]:
        """Every row, in order of the number that it begins with; a log without an archive may lack the tables."""
        after = 0
        while self.sealed() and (page := self._fetch(sql, {"after": after, "limit": rows.PAGE})):
            yield from page
            after = rows.further(after, page[-1][0])

    def streams(self, prefix: str, limit: int = 1_000) -> list[str]:
        """Names of streams that begin with `prefix`, in order of name, at most `limit`."""
        named = {"prefix": prefix, "end": prefix + LAST, "limit": limit}
        return [name for (name,) in self._fetch(rows.STREAMS_NAMED, named)]

    def version(self, stream: str) -> int:
        """The version of the stream's last event, archived or not; 0 where there is no such stream."""
        found = self._fetch(rows.STREAM_END, (stream,))
        return int(found[0][1]) if found else 0

    def first_unended(self, prefix: str, ends: Iterable[str]) -> int | None:
        """The position of the first live event of all streams that begin with `prefix` and whose last event is of none
        of the types `ends`; None where there is no such stream."""
        named = {"prefix": prefix, "end": prefix + LAST, "ends": json.dumps([*ends])}
        found: int | None = self._fetch(rows.FIRST_UNENDED, named)[0][0]
        return found

    def close(self) -> None:
        """Let go of the files."""
        self._archive.close()
        self._connection.close()

    def _in_segments(self, work: Callable[[list[Span]], T], after: int, until: int, limit: int = -1) -> T:
        """What `work` finds in the segments with positions after one and up to another. Where some of them are dropped
        meanwhile it is asked again: that their files are gone is no damage."""
        while True:
            segments = self._segments(after, until, limit)
            try:
                return work(segments)
            except LogCorrupt:
                if self._segments(after, until, limit) == segments:
                    raise
            except OSError as error:
                raise LogUnavailable(f"the archive cannot be read: {error}") from error

    def _segments(self, after: int, until: int, limit: int = -1) -> list[Span]:
        """Those with positions after one and up to another, in order."""
        found = self._fetch(rows.SEGMENTS, {"after": after, "until": until, "limit": limit})
        return [(first, through) for first, through in found]

    def _fetch(self, sql: str, parameters: dict[str, Any] | tuple[Any, ...]) -> list[Any]:
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise rows.failure(error) from error

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _opened(path: Path) -> sqlite3.Connection:
    """A connection that only reads. Where SQLite may not make its shared memory beside the file, as on a read-only
    medium, and all is in the file itself, this is taken for one that nobody writes. Raises `LogUnavailable`."""
    try:
        try:
            return _connected(rows.read_only(path))
        except sqlite3.OperationalError:
            if not _beyond_writing(path) or has_content(path):
                raise
            return _connected(rows.read_only(path) + "&immutable=1")
    except sqlite3.Error as error:
        if not path.exists():
            raise LogUnavailable(f"there is no log at {path}") from error
        hint = f"; copy {path.parent} to where you may write, and read that" if _beyond_writing(path) else ""
        raise LogUnavailable(f"cannot read {path}: {error}{hint}") from error


def _beyond_writing(path: Path) -> bool:
    return path.exists() and not os.access(path.parent, os.W_OK)


def _connected(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=5)
    try:
        check_version(connection)
        connection.execute("SELECT 1 FROM ledger LIMIT 1")
    except BaseException:
        connection.close()
        raise
    return connection


def check_version(connection: sqlite3.Connection) -> None:
    """Raises `LogUnavailable` for a log that a later release wrote in a way of its own."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise LogUnavailable(
            f"this log is of schema version {version}, and this release knows {VERSION}: use the one that wrote it"
        )
