"""The read statements of the log and what their rows become; shared by every reader of the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eventstore.chain import unsound
from eventstore.envelope import Recorded, RecordedEvent, RecordedFrames
from eventstore.errors import LogCorrupt, LogError, LogUnavailable

FILE = "events.db"
"""The log's file in its data directory."""
PAGE = 1_000
"""Rows that one statement reads at most: an open read keeps the write-ahead log from being reused."""

_COLUMNS = "SELECT ledger.position, origins.name, oseq, streams.name, version, types.name, at, codec, data, digest"
VERSION = 4
"""Of a ledger row's columns, the event's version in its stream."""
_NAMED = """
FROM ledger
CROSS JOIN origins ON origins.id = ledger.origin
CROSS JOIN streams ON streams.id = ledger.stream
CROSS JOIN types ON types.id = ledger.type
"""
_EVENT = _COLUMNS + _NAMED

LEDGER = _EVENT + "WHERE ledger.position > :after AND ledger.position <= :until ORDER BY ledger.position LIMIT :limit"

BOTH_LANES = (
    _EVENT
    + """WHERE ledger.position > :after AND ledger.position <= :until
UNION ALL
SELECT position, generation, back, frame, count, offset_us, codec, bytes, NULL, NULL
FROM frames WHERE position > :after AND position <= :until
ORDER BY 1 LIMIT :limit"""
)

_OF_STREAM = """WHERE ledger.stream = (SELECT id FROM streams WHERE name = :stream) AND version > :after
ORDER BY version LIMIT :limit"""

STREAM = _EVENT + _OF_STREAM

_DIGEST_BEFORE = """, ifnull(
    (SELECT digest FROM ledger AS before WHERE before.origin = ledger.origin AND before.oseq = ledger.oseq - 1),
    (SELECT digest FROM archived_origins AS ends WHERE ends.origin = ledger.origin AND ends.oseq = ledger.oseq - 1))"""

PROVEN_STREAM = _COLUMNS + _DIGEST_BEFORE + _NAMED + _OF_STREAM
"""`STREAM`, and behind each row the digest of its origin's event before it. See `proven`."""

# From the run's newest row backwards, one row a step; `position > :generation` ends the search for a run without rows.
RUN = """
WITH RECURSIVE run (position, back) AS (
    SELECT * FROM (
        SELECT position, back FROM frames
        WHERE generation = :generation AND position <= :until AND position > max(:generation, :after)
        ORDER BY position DESC LIMIT 1)
    UNION ALL
    SELECT frames.position, frames.back
    FROM run CROSS JOIN frames ON frames.position = run.position - run.back
    WHERE run.back > 0 AND frames.position > :after AND frames.generation = :generation)
SELECT frames.position, generation, frames.back, frame, count, offset_us, codec, bytes
FROM run CROSS JOIN frames ON frames.position = run.position
ORDER BY frames.position
"""

NODE_KNOWN = """
SELECT NOT EXISTS (SELECT 1 FROM origins) OR EXISTS (
    SELECT 1 FROM about JOIN origins ON substr(origins.name, 1, 9) = value WHERE about.name = 'node')
"""
"""Whether an origin begins with the node's id, as each does that was written here. Copies have the origins' names; the
id stands in this file alone."""

BLOB = "SELECT codec, bytes FROM blobs WHERE digest = :digest"

HEAD = """
SELECT max(ifnull((SELECT max(position) FROM ledger), 0), ifnull((SELECT max(position) FROM frames), 0))
"""

COUNTS = """
SELECT ledger.count, ledger.count + frames.count, ledger.sum + frames.sum FROM
(SELECT count(*) AS count, ifnull(sum(position - :after), 0) AS sum FROM ledger WHERE position > :after) AS ledger,
(SELECT count(*) AS count, ifnull(sum(position - :after), 0) AS sum FROM frames WHERE position > :after) AS frames
"""

BLOBS = "SELECT rowid, digest, codec, bytes FROM blobs WHERE rowid > :after ORDER BY rowid LIMIT :limit"

SEALED = "SELECT ifnull((SELECT through FROM sealed ORDER BY position DESC LIMIT 1), 0)"

SEGMENTS = """
SELECT first, through FROM segments
WHERE through > :after AND first <= :until AND through > (SELECT ifnull(max(through), 0) FROM dropped)
ORDER BY first LIMIT :limit
"""

SEGMENT_DIGEST = "SELECT digest FROM segments WHERE first = :first"

DROPPED = "SELECT ifnull((SELECT through FROM dropped ORDER BY position DESC LIMIT 1), 0)"

LAST_DROP = "SELECT position FROM dropped ORDER BY position DESC LIMIT 1"

ARCHIVED_STREAM = """
SELECT version, first, last FROM archived_streams WHERE stream = (SELECT id FROM streams WHERE name = :stream)
"""

ARCHIVED_STREAMS = """
SELECT stream, name, first, last, version FROM archived_streams LEFT JOIN streams ON streams.id = stream
WHERE stream > :after ORDER BY stream LIMIT :limit
"""

ARCHIVED_CHAINS = """
SELECT origin, name, first, first_oseq, last, oseq, digest
FROM archived_origins LEFT JOIN origins ON origins.id = origin
WHERE origin > :after ORDER BY origin LIMIT :limit
"""

STREAM_END = """
SELECT id, max(ifnull((SELECT max(version) FROM ledger WHERE stream = streams.id), 0),
               ifnull((SELECT version FROM archived_streams WHERE stream = streams.id), 0))
FROM streams WHERE name = ?
"""
"""A stream's id and the version of its last event, archived or not."""

FIRST_UNENDED = """
SELECT min(first) FROM (
    SELECT (SELECT position FROM ledger WHERE stream = streams.id ORDER BY version LIMIT 1) AS first,
           (SELECT type FROM ledger WHERE stream = streams.id ORDER BY version DESC LIMIT 1) AS last
    FROM streams WHERE name >= :prefix AND name < :end)
WHERE last NOT IN (SELECT id FROM types WHERE name IN (SELECT value FROM json_each(:ends)))
"""
"""Two look-ups a stream, whatever its length; a stream that is archived as a whole has no `last`, and is left out."""

STREAMS_NAMED = "SELECT name FROM streams WHERE name >= :prefix AND name < :end ORDER BY name LIMIT :limit"


def recorded(row: tuple[Any, ...]) -> Recorded:
    """A row of `BOTH_LANES` or `LEDGER`; a frames row has no digest."""
    return RecordedFrames(*row[:8]) if row[9] is None else RecordedEvent(*row)


def proven(found: Iterable[tuple[Any, ...]], after: int) -> list[RecordedEvent]:
    """Rows of `PROVEN_STREAM`, each compared with itself and with the event before it in its chain, if that is here.

    `after` is the version before the first of them. Raises `LogCorrupt`."""
    events = []
    for *columns, before in found:
        event = RecordedEvent(*columns)
        if what := unsound(event, before):
            raise LogCorrupt(event.position, what)
        if event.version != after + 1:
            raise LogCorrupt(event.position, f"version {event.version} of {event.stream} follows {after}")
        after = event.version
        events.append(event)
    return events


def further(after: int, reached: int) -> int:
    """Where the next page begins. Raises `LogCorrupt` where the last one led nowhere: damaged trees go in circles."""
    if reached <= after:
        raise LogCorrupt(reached, f"it was found behind {after}, where it does not belong")
    return reached


def read_only(path: Path) -> str:
    """The URI that opens the log's file for reading alone: such a connection never writes, nor checkpoints."""
    return f"{path.absolute().as_uri()}?mode=ro"


def failure(error: sqlite3.Error) -> LogError:
    """SQLite's error in the log's words: the file could not be read (`LogUnavailable`), or it makes no sense."""
    if is_damage(error):
        return LogCorrupt(0, f"the file is damaged: {error}")
    return LogUnavailable(f"the log cannot be read: {error}")


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is to blame. Python's module reports a text that is no UTF-8 as an `OperationalError` too, but
    without a code of SQLite's."""
    if isinstance(error, sqlite3.OperationalError):
        return not hasattr(error, "sqlite_errorcode")
    return not isinstance(error, sqlite3.ProgrammingError)
