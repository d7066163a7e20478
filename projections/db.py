"""`projections.db`: opened by its one writer (the engine) and by readers, and recognised when it is damaged or gone.

SQLite in WAL mode with `synchronous=NORMAL`: a power cut may lose the newest transactions, each whole, rows and
checkpoint together, and the log gives them again.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "projections.db"
FORMAT = 1
"""`user_version` of the file. A file with another one is made anew from the log."""

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_SURROUNDINGS = _DAMAGED | {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
}


class NotReady(Exception):
    """There is no `projections.db` yet: its engine has not started, or is making it anew. Try again in a moment."""


def is_damaged(error: BaseException) -> bool:
    """Whether SQLite says that a file is not a database, or a broken one."""
    return _code(error) in _DAMAGED


def is_of_surroundings(error: BaseException) -> bool:
    """Whether the disk, the memory or a lock refused, so that no event is to blame."""
    return isinstance(error, OSError | MemoryError) or _code(error) in _SURROUNDINGS


def _code(error: BaseException) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def open_writer(path: Path) -> sqlite3.Connection:
    """The database for its one writer, made (mode 0600) where it is missing. A damaged or foreign one is made anew."""
    try:
        return _open(path)
    except sqlite3.DatabaseError as error:
        if not is_damaged(error):
            raise
    remove(path)
    return _open(path)


def _open(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    rows = sqlite3.connect(path, isolation_level=None, timeout=30)
    try:
        prepare(rows)
    except sqlite3.Error:
        rows.close()
        raise
    return rows


def prepare(rows: sqlite3.Connection) -> None:
    """Settings of the writing connection. Raises `sqlite3.DatabaseError` for a damaged or foreign file."""
    rows.execute("PRAGMA journal_mode=WAL")
    rows.execute("PRAGMA synchronous=NORMAL")
    (version,) = rows.execute("PRAGMA user_version").fetchone()
    (tables,) = rows.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if version != FORMAT and tables:
        raise _other_format(version)


def mark_ready(rows: sqlite3.Connection) -> None:
    """Let readers in; in the transaction that made the tables."""
    rows.execute(f"PRAGMA user_version={FORMAT}")


def _other_format(version: int) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(f"{NAME} has format {version}, this release writes {FORMAT}")
    error.sqlite_errorcode = sqlite3.SQLITE_NOTADB
    return error


def remove(path: Path) -> None:
    """Delete the database with its side files. Readers that have it open keep the old one until they look again."""
    for suffix in ("-wal", "-shm", ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


@contextmanager
def transaction(rows: sqlite3.Connection) -> Iterator[None]:
    """Everything inside is committed at once, or not at all. Takes the write lock at once."""
    rows.execute("BEGIN IMMEDIATE")
    try:
        yield
        rows.execute("COMMIT")
    except BaseException:
        if rows.in_transaction:
            rows.execute("ROLLBACK")
        raise


@contextmanager
def savepoint(rows: sqlite3.Connection) -> Iterator[None]:
    """A transaction inside the transaction: what is inside is undone alone when it raises."""
    rows.execute("SAVEPOINT fold")
    try:
        yield
    except BaseException:
        if rows.in_transaction:
            rows.execute("ROLLBACK TO fold")
            rows.execute("RELEASE fold")
        raise
    rows.execute("RELEASE fold")


@contextmanager
def snapshot(rows: sqlite3.Connection) -> Iterator[None]:
    """Every query inside sees the same moment, so that rows and the position they belong to agree."""
    rows.execute("BEGIN")
    try:
        yield
    finally:
        if rows.in_transaction:
            rows.execute("COMMIT")


class Reader:
    """A read-only connection that notices when the file was replaced. One thread at a time may use it."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / NAME
        self._rows: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def rows(self) -> sqlite3.Connection:
        """The connection, opened anew if need be. Raises `NotReady` where there is no database."""
        file = file_id(self._path)
        if file is None:
            raise NotReady(f"{NAME} is not there yet")
        if self._rows is None or file != self._file:
            self.close()
            self._rows, self._file = _open_read_only(self._path), file
        return self._rows

    def close(self) -> None:
        """Let the file go."""
        if self._rows is not None:
            self._rows.close()
            self._rows = None


def _open_read_only(path: Path) -> sqlite3.Connection:
    rows = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=5, check_same_thread=False
    )
    (version,) = rows.execute("PRAGMA user_version").fetchone()
    if version != FORMAT:
        rows.close()
        raise NotReady(f"{NAME} is being made")
    return rows


def file_id(path: Path) -> tuple[int, int] | None:
    """Which file lies at a path (device, inode); None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
