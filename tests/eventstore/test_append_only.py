"""Append-only is the database's rule: whoever opens the file, with whatever tool, cannot change or delete a row."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventstore.envelope import ANY_VERSION, NewEvent, StreamWrite
from eventstore.sqlite import SQLiteLog
from tests.eventstore.builders import record_run

FORBIDDEN = [
    "UPDATE ledger SET at = at + 1",
    "UPDATE ledger SET data = x'00' WHERE position = 1",
    "DELETE FROM ledger",
    "DELETE FROM ledger WHERE position = 1",
    "UPDATE frames SET bytes = x'00'",
    "DELETE FROM frames WHERE position = 2",
    "UPDATE blobs SET bytes = x'00'",
    "DELETE FROM blobs",
    "UPDATE streams SET name = 'other'",
    "DELETE FROM streams",
    "UPDATE types SET name = 'other' WHERE id = 1",
    "DELETE FROM origins",
    "INSERT INTO sealed (position, through, deleting) VALUES (1, 1, NULL)",
    "INSERT INTO sealed (position, through, deleting) VALUES (99, 3, 1)",
]
SEAL = "INSERT INTO sealed (position, through, deleting) VALUES (5, 4, 1)"
CLOSE = "UPDATE sealed SET deleting = NULL"


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A stopped log of four rows."""
    log = await SQLiteLog.open(tmp_path)
    await record_run(log, "request-1", b"x", b"y")
    await log.append(blobs=[b"content"])
    await log.close()
    return tmp_path / "events.db"


@pytest.fixture
def shell(path: Path) -> Iterator[sqlite3.Connection]:
    """The file as a SQLite shell opens it."""
    connection = sqlite3.connect(path, isolation_level=None)
    yield connection
    connection.close()


async def seal(data_dir: Path, through: int) -> None:
    log = await SQLiteLog.open(data_dir)
    await log.append(StreamWrite("node-1", ANY_VERSION, (NewEvent("segment_sealed", 1, b'{"through":%d}' % through),)))
    await log.close()


def is_refused(shell: sqlite3.Connection, statement: str) -> bool:
    try:
        shell.execute(statement)
    except sqlite3.IntegrityError:
        return True
    return False


@pytest.mark.parametrize("statement", FORBIDDEN)
async def test_the_database_refuses(shell: sqlite3.Connection, statement: str) -> None:
    assert is_refused(shell, statement)


@pytest.mark.parametrize("statement", FORBIDDEN[:-2])
async def test_without_its_triggers_it_would_not(shell: sqlite3.Connection, statement: str) -> None:
    for (name,) in shell.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
        shell.execute(f"DROP TRIGGER {name}")
    assert not is_refused(shell, statement)


async def test_a_sealed_segment_may_be_deleted_by_the_transaction_that_seals_it(path: Path) -> None:
    await seal(path.parent, through=4)
    with sqlite3.connect(path, isolation_level=None) as shell:
        shell.execute("PRAGMA foreign_keys = ON")
        shell.execute("BEGIN IMMEDIATE")
        shell.execute(SEAL)
        for table in ("ledger", "frames"):
            shell.execute(f"DELETE FROM {table} WHERE position <= 4")
        assert is_refused(shell, "DELETE FROM ledger WHERE position = 5")
        shell.execute(CLOSE)
        shell.execute("COMMIT")
        assert is_refused(shell, "DELETE FROM ledger")
        assert shell.execute("SELECT position FROM ledger").fetchall() == [(5,)]


async def test_a_seal_must_say_what_its_event_says(path: Path) -> None:
    await seal(path.parent, through=3)
    with sqlite3.connect(path, isolation_level=None) as shell:
        assert is_refused(shell, SEAL)


async def test_the_door_cannot_be_left_open(path: Path) -> None:
    await seal(path.parent, through=4)
    with sqlite3.connect(path, isolation_level=None) as shell:
        shell.execute("PRAGMA foreign_keys = ON")
        shell.execute("BEGIN IMMEDIATE")
        shell.execute(SEAL)
        assert is_refused(shell, "COMMIT")
        shell.execute("ROLLBACK")
        assert is_refused(shell, "DELETE FROM ledger")


async def test_the_view_reads_well(shell: sqlite3.Connection) -> None:
    rows = shell.execute("SELECT position, oseq, stream, version, type, time, data FROM events").fetchall()
    assert [row[:5] for row in rows] == [(1, 1, "request-1", 1, "run_opened"), (4, 2, "request-1", 2, "run_closed")]
    assert all(f'"time":"{row[5]}"' in row[6] for row in rows)
