"""Making a damaged log's file anew: read what can be read, put in what was found again, and take its place at once.

The new file is written beside the old one, complete and synced, and then renamed over it: before that moment nothing
has changed. The damaged file stays as `events.db.damaged`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from eventstore import rows
from eventstore.archive_ends import ArchiveEnds
from eventstore.database import initialise
from eventstore.envelope import RecordedFrames
from eventstore.errors import LogCorrupt
from eventstore.ingest import PulledEvent
from eventstore.jetstream import JetStream, Stored
from eventstore.reader import Reader
from eventstore.relay_messages import DIGEST, POSITION, WHOLE, RowHeader, frame_key, ledger_key
from eventstore.repair import Copies, Kept, Mended
from eventstore.syncing import sync_names

DAMAGED = "events.db.damaged"
PAGE = 1_000
ROW_LEAST = 16
"""Bytes that no row of either lane is below."""
_FRAMES_TYPES = (*[int] * 7, bytes)
_LEDGER_ROW = "SELECT position, data, digest FROM ledger WHERE position = ?"
_FRAMES_ROW = "SELECT position, generation, back, frame, count, offset_us, codec, bytes FROM frames WHERE position = ?"


async def copies(js: JetStream) -> Copies:
    """Everything in JetStream that a log can be mended with. Raises `JetStreamError`."""
    found = Copies()
    async for origin, stored in _all(js, "LEDGER"):
        position, digest = stored.headers.get(POSITION, ""), stored.headers.get(DIGEST, "")
        if WHOLE not in stored.headers and position.isdecimal():
            oseq = ledger_key(stored.headers)[0]
            event = PulledEvent(origin, oseq, stored.payload, _unhexed(digest))
            found.events[origin, oseq] = int(position), event
    async for origin, stored in _all(js, "TOKENS"):
        if row := RowHeader.read(stored.headers):
            at, frame = frame_key(stored.headers)
            recorded = RecordedFrames(at, 0, 0, frame, row.count, row.offset_us, row.codec, row.bytes)
            found.rows.setdefault((origin, row.opened), {})[frame] = recorded
    return found


def _unhexed(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


async def _all(js: JetStream, stream: str) -> AsyncIterator[tuple[str, Stored]]:
    sequence = 1
    while page := await js.read(stream, sequence, PAGE):
        sequence = page[-1].sequence + 1
        for stored in page:
            yield stored.subject.rpartition(".")[2], stored


def kept(path: Path, after: int) -> tuple[list[Kept], list[RecordedFrames], int]:
    """The live rows behind `after` that can still be read, each looked up by itself, so that a damaged page costs what
    it holds alone; and the head. Raises `LogCorrupt` where that is damaged, and the rows up to it are countless."""
    with closing(sqlite3.connect(rows.read_only(path), uri=True)) as connection:
        head: int = connection.execute(rows.HEAD).fetchone()[0]
        if head - after > path.stat().st_size // ROW_LEAST:
            raise LogCorrupt(head, "no file of this size has so many rows: nothing is changed")
        span = range(after + 1, head + 1)
        events = [Kept(*row) for row in _each(connection, _LEDGER_ROW, span, (int, bytes, bytes))]
        frames = [RecordedFrames(*row) for row in _each(connection, _FRAMES_ROW, span, _FRAMES_TYPES)]
    return events, frames, head


def _each(connection: sqlite3.Connection, sql: str, span: range, types: tuple[type, ...]) -> Iterator[tuple[Any, ...]]:
    for position in span:
        try:
            row = connection.execute(sql, (position,)).fetchone()
        except sqlite3.Error:
            continue  # as if it were not there: it is looked for elsewhere
        if row is not None and tuple(map(type, row)) == types:
            yield row


def write_mended(damaged: Path, made: Path, mended: Mended, ends: ArchiveEnds) -> None:
    """The new file, at `made`: the mended rows, where the archive `ends`, and as the damaged one has them the blobs,
    the list of segments, and the facts about itself."""
    with closing(sqlite3.connect(made, isolation_level="IMMEDIATE")) as connection:
        initialise(connection)
        names: dict[str, dict[str, int]] = {"origins": {}, "streams": {}, "types": {}}
        with connection:
            for position in sorted(mended.events):
                event = mended.events[position]
                origin, stream, type_ = (
                    _number(names[table], name)
                    for table, name in (("origins", event.origin), ("streams", event.stream), ("types", event.type))
                )
                columns = (position, origin, event.oseq, stream, event.version, type_, event.at, event.codec)
                connection.execute(
                    "INSERT INTO ledger VALUES (?,?,?,?,?,?,?,?,?,?)", (*columns, event.data, event.digest)
                )
            for position in sorted(mended.frames):
                row = mended.frames[position]
                run = (position, row.generation, row.back, row.frame, row.count, row.offset_us, row.codec)
                connection.execute("INSERT INTO frames VALUES (?,?,?,?,?,?,?,?)", (*run, row.bytes))
            _copy(damaged, connection)
            _write_ends(damaged, connection, names, ends)
            for table, known in names.items():
                connection.executemany(f"INSERT INTO {table} VALUES (?, ?)", [(n, name) for name, n in known.items()])  # noqa: S608  our own names


def _number(known: dict[str, int], name: str) -> int:
    return known.setdefault(name, len(known) + 1)


def _copy(damaged: Path, connection: sqlite3.Connection) -> None:
    """The event that sealed a segment may lie in a later one, so the trigger that asks for it is made afterwards."""
    (trigger,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'sealed_needs_its_event'").fetchone()
    connection.execute("DROP TRIGGER sealed_needs_its_event")
    with closing(sqlite3.connect(rows.read_only(damaged), uri=True)) as old:
        archive = ("sealed", "segments", "dropped") if old.execute(rows.SEALED).fetchone()[0] else ()
        for table in ("about", "blobs", *archive):
            _copy_rows(connection, table, old.execute(f"SELECT * FROM {table}"))  # noqa: S608  our own names
    connection.execute(trigger)


def _write_ends(
    damaged: Path, connection: sqlite3.Connection, names: dict[str, dict[str, int]], ends: ArchiveEnds
) -> None:
    with Reader(damaged) as reader:
        streams, chains = ends.streams(reader.archived_streams()), ends.chains(reader.archived_chains())
    for name, ((first,), (last, version)) in streams.items():
        number = _number(names["streams"], name)
        connection.execute("INSERT INTO archived_streams VALUES (?, ?, ?, ?)", (number, version, first, last))
    for name, ((first, first_oseq), (last, oseq, digest)) in chains.items():
        known = (_number(names["origins"], name), first_oseq, first, oseq, last, digest)
        connection.execute("INSERT INTO archived_origins VALUES (?, ?, ?, ?, ?, ?)", known)


def _copy_rows(connection: sqlite3.Connection, table: str, found: Iterable[tuple[Any, ...]]) -> None:
    for row in found:
        connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608  as above


def put_in_place(made: Path, path: Path) -> None:
    """Keep the damaged file, if there is one, beside as `<name>.damaged`, and rename the new one over it. A damaged
    database's write-ahead log must be empty."""
    if path.exists():
        kept_as = path.with_name(path.name + ".damaged")
        kept_as.unlink(missing_ok=True)
        os.link(path, kept_as)
    os.replace(made, path)
    sync_names(path.parent)
