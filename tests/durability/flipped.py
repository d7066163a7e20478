"""One word of a log's rows changed on the disk, as a bit that turned over would: the digests beside it stay."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from eventstore import rows


def flipped(data_dir: Path, table: str, column: str, word: bytes, by: bytes) -> int:
    """Put other bytes of that length into every row of a stopped server's table that has the word; how many had it."""
    assert len(word) == len(by)
    with closing(sqlite3.connect(data_dir / rows.FILE)) as connection, connection:
        triggers = connection.execute(
            "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ?", (table,)
        ).fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        found = connection.execute(f"SELECT position, {column} FROM {table}").fetchall()
        hit = [(content.replace(word, by), position) for position, content in found if word in content]
        connection.executemany(f"UPDATE {table} SET {column} = ? WHERE position = ?", hit)
        for _, sql in triggers:
            connection.execute(sql)
    return len(hit)
