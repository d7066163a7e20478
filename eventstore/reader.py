"""Reading the log's file synchronously: for other processes and for tools, beside a running server or without one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from eventstore import rows
from eventstore.blobs import checked_blob, damage
from eventstore.envelope import Recorded, RecordedEvent, RecordedFrames
from eventstore.errors import LogUnavailable

ALL = 1 << 62
"""An `until` that is past every position."""
BLOBS = 16
"""Blobs in memory at once, each of any size."""
STRUCTURE = 20


class Reader:
    """A read-only view of `path` (`events.db`, or the data directory that holds it). One thread at a time.

    Works while a server writes, after it was killed, and when it is stopped. Every method is one short transaction a
    page; it never writes and never checkpoints. Raises `LogUnavailable` where there is no log to read,
    `LogCorrupt` where SQLite finds it damaged.
    """

    def __init__(self, path: Path | str) -> None:
        path = Path(path)
        self.path = path / rows.FILE if path.is_dir() else path
        try:
            self._connection = sqlite3.connect(
                rows.read_only(self.path), uri=True, isolation_level=None, check_same_thread=False, timeout=5
            )
            self._connection.execute("SELECT 1 FROM ledger LIMIT 1")
        except sqlite3.Error as error:
            raise LogUnavailable(f"cannot read {self.path}: {error}") from error

    def read(self, after: int, limit: int, *, until: int | None = None, frames: bool = True) -> list[Recorded]:
        """As `Log.read`."""
        found: list[Recorded] = []
        sql = rows.BOTH_LANES if frames else rows.LEDGER
        while len(found) < limit:
            size = min(rows.PAGE, limit - len(found))
            page = self._fetch(sql, {"after": after, "until": ALL if until is None else until, "limit": size})
            found += map(rows.recorded, page)
            if len(page) < size:
                break
            after = rows.further(after, page[-1][0])
        return found

    def rows(self, after: int = 0, *, until: int | None = None, frames: bool = True) -> Iterator[Recorded]:
        """Every row with `after < position <= until`, a page at a time; ends at the head."""
        while page := self.read(after, rows.PAGE, until=until, frames=frames):
            yield from page
            after = rows.further(after, page[-1].position)

    def read_stream(self, stream: str, after: int = 0) -> list[RecordedEvent]:
        """As `Log.read_stream`."""
        found: list[RecordedEvent] = []
        while True:
            page = self._fetch(rows.STREAM, {"stream": stream, "after": after, "limit": rows.PAGE})
            found += [RecordedEvent(*row) for row in page]
            if len(page) < rows.PAGE:
                return found
            after = rows.further(after, found[-1].version)

    def read_frames(self, generation: int, until: int, after: int = 0) -> list[RecordedFrames]:
        """As `Log.read_frames`."""
        page = self._fetch(rows.RUN, {"generation": generation, "until": until, "after": after})
        return [RecordedFrames(*row) for row in page]

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
        """The position up to which rows may have moved into an archive; 0 where all are here."""
        return int(self._fetch(rows.SEALED, {})[0][0])

    def streams(self, prefix: str, limit: int = 1_000) -> list[str]:
        """Names of streams that begin with `prefix`, in order of name, at most `limit`."""
        end = prefix + "\U0010ffff"
        return [name for (name,) in self._fetch(rows.STREAMS_NAMED, {"prefix": prefix, "end": end, "limit": limit})]

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _fetch(self, sql: str, parameters: dict[str, Any]) -> list[Any]:
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
