"""What the writer does in the transaction that lets an archived segment's rows go. Every statement here runs in it."""

from __future__ import annotations

import sqlite3

from eventstore.envelope import NewEvent
from eventstore.value import value

PAGES_GIVEN_BACK = 1_000
"""Pages (of 4 KiB) that one step gives back to the file system, while appends wait."""

_OPEN_DOOR = "INSERT INTO sealed (position, through, deleting) VALUES (:position, :through, 1)"
_CLOSE_DOOR = "UPDATE sealed SET deleting = NULL WHERE position = :position"
_SEGMENT = "INSERT INTO segments (position, first, through, digest) VALUES (:position, :first, :through, :digest)"
_STREAMS = """
INSERT INTO archived_streams (stream, version, first, last)
SELECT stream, max(version), min(position), max(position) FROM ledger WHERE position <= :through GROUP BY stream
ON CONFLICT (stream) DO UPDATE SET version = excluded.version, last = excluded.last
"""
_ORIGINS = """
INSERT INTO archived_origins (origin, first_oseq, first, oseq, last, digest)
SELECT ends.origin, first_oseq, first, last.oseq, last.position, last.digest
FROM (SELECT origin, min(oseq) AS first_oseq, min(position) AS first, max(oseq) AS oseq
      FROM ledger WHERE position <= :through GROUP BY origin) AS ends
JOIN ledger AS last ON last.origin = ends.origin AND last.oseq = ends.oseq
WHERE true
ON CONFLICT (origin) DO UPDATE SET oseq = excluded.oseq, last = excluded.last, digest = excluded.digest
"""
_DELETE = ("DELETE FROM ledger WHERE position <= :through", "DELETE FROM frames WHERE position <= :through")
_DROP = "INSERT INTO dropped (position, through) VALUES (:position, :through)"


@value
class Sealing:
    """The next segment, which lies in its file: the sha256 of that, and the `segment_sealed` event that says so."""

    first: int
    through: int
    digest: bytes
    event: NewEvent

    def apply(self, connection: sqlite3.Connection, position: int) -> None:
        """Delete the rows, remembering of each stream and origin where it ends; `position` is the event's."""
        parameters = {"position": position, "first": self.first, "through": self.through, "digest": self.digest}
        for statement in (_OPEN_DOOR, _SEGMENT, _STREAMS, _ORIGINS, *_DELETE, _CLOSE_DOOR):
            connection.execute(statement, parameters)


@value
class Dropping:
    """Segments up to `through` are no longer part of the log, and the event that says so."""

    through: int
    event: NewEvent

    def apply(self, connection: sqlite3.Connection, position: int) -> None:
        """Record it; `position` is the event's."""
        connection.execute(_DROP, {"position": position, "through": self.through})


def give_back_pages(connection: sqlite3.Connection, position: int) -> None:
    """Shrink the file by some of the pages that hold nothing."""
    connection.execute(f"PRAGMA incremental_vacuum({PAGES_GIVEN_BACK})").fetchall()
