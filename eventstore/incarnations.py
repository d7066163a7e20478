"""Who wrote this log: one origin after another, each with its own gapless count. Read beside a running server."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from eventstore.reader import Reader
from eventstore.rows import read_only

SPANS = """
SELECT name, ifnull(archived.first_oseq, earliest.oseq), ifnull(archived.first, earliest.position) AS first_position,
       ifnull(latest.oseq, archived.oseq), ifnull(latest.position, archived.last)
FROM origins
LEFT JOIN ledger AS earliest ON earliest.origin = origins.id
    AND earliest.oseq = (SELECT min(oseq) FROM ledger WHERE origin = origins.id)
LEFT JOIN ledger AS latest ON latest.origin = origins.id
    AND latest.oseq = (SELECT max(oseq) FROM ledger WHERE origin = origins.id)
LEFT JOIN archived_origins AS archived ON archived.origin = origins.id
WHERE first_position IS NOT NULL ORDER BY first_position
"""

ARCHIVED = """
SELECT first_oseq, first, oseq, last FROM archived_origins WHERE origin = (SELECT id FROM origins WHERE name = :origin)
"""

DIGEST = """
SELECT position, digest FROM ledger WHERE origin = (SELECT id FROM origins WHERE name = :origin) AND oseq = :oseq
"""

CURRENT = """
SELECT name FROM origins CROSS JOIN ledger AS last ON last.origin = origins.id
    AND last.oseq = (SELECT max(oseq) FROM ledger WHERE origin = origins.id)
ORDER BY last.at DESC LIMIT 1
"""

AT = "SELECT position, at FROM ledger WHERE position >= :position ORDER BY position LIMIT 1"


@dataclass(frozen=True, slots=True)
class Span:
    """What the ledger holds of one origin, archived or not: its first and last event, by the origin's own count and by
    position."""

    origin: str
    first_oseq: int
    first: int
    last_oseq: int
    last: int


class Incarnations:
    """Questions about origins, asked of `events.db` on a connection that only reads. One thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = sqlite3.connect(
            read_only(path), uri=True, isolation_level=None, check_same_thread=False, timeout=5
        )

    def spans(self) -> list[Span]:
        """Every origin that has events here, in the order of their first positions. What was pulled back of an earlier
        one lies behind the beginning of the one that pulled it."""
        return [Span(*row) for row in self._connection.execute(SPANS)]

    def current(self) -> str:
        """The origin that wrote last, by its clock; the empty string for an empty log."""
        found = self._connection.execute(CURRENT).fetchone()
        return str(found[0]) if found else ""

    def find(self, origin: str, oseq: int) -> tuple[int, bytes] | None:
        """Position and digest of that event, or None if it is not here."""
        found: tuple[int, bytes] | None = self._connection.execute(DIGEST, {"origin": origin, "oseq": oseq}).fetchone()
        return found or self._find_archived(origin, oseq)

    def _find_archived(self, origin: str, oseq: int) -> tuple[int, bytes] | None:
        """The same in the archive, which is searched from the origin's beginning there."""
        ends = self._connection.execute(ARCHIVED, {"origin": origin}).fetchone()
        if ends is None or not ends[0] <= oseq <= ends[2]:
            return None
        with Reader(self._path) as reader:
            for event in reader.events(ends[1] - 1, until=ends[3]):
                if (event.origin, event.oseq) == (origin, oseq):
                    return event.position, event.digest
        return None

    def position_before(self, at: int) -> int:
        """A position such that every event recorded at or after `at` (microseconds since 1970 UTC) comes after it."""
        low, high = 0, self._last()
        while low < high:
            middle = (low + high) // 2
            position, recorded = self._connection.execute(AT, {"position": middle + 1}).fetchone()
            if recorded < at:
                low = position
            else:
                high = middle
        return low

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _last(self) -> int:
        return int(self._connection.execute("SELECT ifnull(max(position), 0) FROM ledger").fetchone()[0])
