"""Opening the log's file for its one writer: create it or check its end, and take up where it stops."""

from __future__ import annotations

import os
import secrets
import sqlite3
import string
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eventstore import rows, wal
from eventstore.batch import Tail
from eventstore.chain import Chain, chained, disagreement
from eventstore.envelope import RecordedEvent
from eventstore.errors import LogCorrupt, LogUnavailable

APPLICATION_ID = 0x41434C47
VERSION = 2
TAIL_CHECKED = 1_000
"""Ledger rows at the end that every start checks; the whole log is `verify`'s work."""
NODE_UNKNOWN = "the node's id is not the one that every incarnation here begins with"
STATEMENTS_CACHED = 512
SYNCHRONOUS = {"power": "FULL", "process": "NORMAL"}

_SCHEMAS = tuple(Path(__file__).with_name(name) for name in ("schema.sql", "schema_2.sql"))
"""Each makes, of a file of the version before, one of its own version."""

_PREVIOUS = """
SELECT origins.name, last.oseq, last.digest FROM origins CROSS JOIN ledger AS last ON last.origin = origins.id
    AND last.oseq = (SELECT max(oseq) FROM ledger WHERE origin = origins.id)
WHERE origins.name GLOB :node || '*' ORDER BY last.at DESC LIMIT 1
"""
"""By time: what was pulled back of incarnations before it lies behind the newest one's beginning."""
_LAST_AT = f"SELECT max(at) FROM (SELECT at FROM ledger ORDER BY position DESC LIMIT {TAIL_CHECKED})"  # noqa: S608  a constant
_LAST_STREAM = "SELECT ifnull(max(id), 0) FROM streams"
_ARCHIVED_ENDS = """
SELECT origins.name, oseq, digest FROM archived_origins JOIN origins ON origins.id = archived_origins.origin
"""
_BEFORE_TAIL = "SELECT position FROM ledger ORDER BY position DESC LIMIT 1 OFFSET ?"


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that is ready to be written. `previous` is `{origin, oseq, digest}` of this node's last incarnation;
    rows up to the position `sealed` are archived, those up to `dropped` gone. What is told of its damage is in
    `warnings`; it was `cut` where a damaged write-ahead log may have hidden its end."""

    connection: sqlite3.Connection
    tail: Tail
    previous: dict[str, Any] | None
    sealed: int = 0
    dropped: int = 0
    warnings: tuple[str, ...] = ()
    cut: bool = False


def open_database(path: Path, durability: str) -> Opened:
    """Open or create the file (mode 0600) and begin a new incarnation.

    Where a bit of the write-ahead log turned over, SQLite neither reads nor spares what lies behind it: the file is
    kept as it was, and told of. Raises `LogCorrupt` where the end of the log contradicts itself, `LogUnavailable` where
    SQLite cannot use the file.
    """
    lost = spare(path)
    try:
        connection = _connect(path)
        try:
            return replace(take_charge(connection, durability), warnings=lost, cut=bool(lost))
        except BaseException:
            connection.close()
            raise
    except sqlite3.DatabaseError as error:
        if rows.is_damage(error):
            raise LogCorrupt(0, f"{path} is damaged: {error}") from error
        raise LogUnavailable(f"cannot open {path}: {error}") from error


def spare(path: Path) -> tuple[str, ...]:
    """Before SQLite opens a file to write: keep its write-ahead log where that is damaged, leave of it what is to be
    gone on with, and say so; nothing where it is sound. Raises `LogCorrupt`, `LogUnavailable`."""
    lost = _kept(path)
    if lost:
        _choose(path, lost)
    return lost


def _kept(path: Path) -> tuple[str, ...]:
    try:
        hidden = wal.lost_behind(path)
        if not hidden:
            return ()
        name = wal.keep(path).name
    except OSError as error:
        raise LogUnavailable(f"cannot keep the damaged write-ahead log of {path}: {error}") from error
    return (
        f"the write-ahead log of {path.name} was damaged: up to {hidden} transactions at its end cannot be read, and"
        f" come back only if NATS has them; the damaged file is kept as {name}",
    )


def _choose(path: Path, lost: tuple[str, ...]) -> None:
    """Go on from the database with what comes before the damage, or from it alone: what the damage hides may have been
    moved there already, and what comes before it is then older."""
    before, alone = _sound_head(rows.read_only(path)), _sound_head(rows.read_only(path) + "&immutable=1")
    if max(before, alone) < 0:
        raise LogCorrupt(0, f"{lost[0]}; and what remains does not hold together")
    if alone >= before:
        wal.remove(path)


def _sound_head(uri: str) -> int:
    """The last position of a file that holds together as a whole; -1 for one that does not, or is no log."""
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            head: int = connection.execute(rows.HEAD).fetchone()[0]
    except sqlite3.DatabaseError:
        return -1
    return head if found == "ok" else -1


def take_charge(connection: sqlite3.Connection, durability: str) -> Opened:
    """As `open_database`, on a connection to the file that begins its transactions itself (`isolation_level`)."""
    _prepare(connection, durability)
    _check_tail(connection)
    return _take_up(connection)


def initialise(connection: sqlite3.Connection) -> None:
    """Make an empty log's file of a new one."""
    _prepare(connection, "power")


def sqlite_warnings(version: tuple[int, int, int] = sqlite3.sqlite_version_info) -> list[str]:
    """What an operator should know about the SQLite library that Python brought along."""
    fixed = any(version[:2] == patched[:2] and version >= patched for patched in ((3, 44, 6), (3, 50, 7)))
    if fixed or not (3, 7, 0) <= version <= (3, 51, 2):
        return []
    number = ".".join(map(str, version))
    return [
        f"SQLite {number} has the WAL-reset bug (sqlite.org/wal.html#walresetbug): a second process "
        "writing to events.db could corrupt it. This server uses one writer; let nothing else write there."
    ]


def _connect(path: Path) -> sqlite3.Connection:
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    # isolation_level: Python then begins transactions itself, in one step less than an explicit BEGIN (see writer.py).
    return sqlite3.connect(
        path, timeout=5, isolation_level="IMMEDIATE", check_same_thread=False, cached_statements=STATEMENTS_CACHED
    )


def _prepare(connection: sqlite3.Connection, durability: str) -> None:
    """Settings of every start, and at the first one the schema."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        connection.execute("PRAGMA page_size = 4096")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS[durability]}")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    connection.execute("PRAGMA foreign_keys = ON")
    ours = version == 0 or connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
    if version > VERSION or not ours:
        raise LogUnavailable(f"{rows.FILE} is not a log of schema version {VERSION} (it says {version})")
    for schema in _SCHEMAS[version:]:
        connection.executescript(schema.read_text())


def _check_tail(connection: sqlite3.Connection) -> None:
    (sealed,) = connection.execute(rows.SEALED).fetchone()
    (before,) = connection.execute(_BEFORE_TAIL, (TAIL_CHECKED,)).fetchone() or (sealed,)
    tail = connection.execute(rows.LEDGER, {"after": before, "until": 1 << 62, "limit": TAIL_CHECKED}).fetchall()
    _check_positions(connection, before, len(tail))
    digests: dict[str, tuple[int, bytes]] = {}
    if before == sealed:
        digests = {name: (oseq, digest) for name, oseq, digest in connection.execute(_ARCHIVED_ENDS)}
    for row in tail:
        event = RecordedEvent(*row)
        what = disagreement(event) or _break(event, digests.get(event.origin))
        if what:
            raise LogCorrupt(event.position, what)
        digests[event.origin] = event.oseq, event.digest


def _check_positions(connection: sqlite3.Connection, before: int, readable: int) -> None:
    """Both lanes together have every position after `before` once: as many as there should be, with the right sum."""
    head = connection.execute(rows.HEAD).fetchone()[0]
    events, count, total = connection.execute(rows.COUNTS, {"after": before}).fetchone()
    due = max(head - before, 0)
    if (count, total) != (due, due * (due + 1) // 2):
        raise LogCorrupt(head, f"not every position from {before + 1} to {head} is there once")
    if events != readable:  # a row that names no origin, stream or type is not read
        raise LogCorrupt(head, f"{events - readable} of the last {events} events cannot be read")


def _break(event: RecordedEvent, previous: tuple[int, bytes] | None) -> str | None:
    """What is wrong with the event as the next of its chain; the first one seen of an origin cannot be judged."""
    if previous is None and event.oseq > 1:
        return None
    oseq, digest = previous or (0, b"")
    if event.oseq != oseq + 1:
        return f"oseq {event.oseq} of {event.origin} follows {oseq}"
    return None if event.digest == chained(digest, event.data) else "the digest does not match the data"


def _take_up(connection: sqlite3.Connection) -> Opened:
    one = connection.execute
    if not one(rows.NODE_KNOWN).fetchone()[0]:
        raise LogCorrupt(0, NODE_UNKNOWN)
    node = (one("SELECT value FROM about WHERE name = 'node'").fetchone() or (None,))[0]
    if node is None:
        node = "n" + _random(8)
        one("INSERT INTO about (name, value) VALUES ('node', ?)", (node,))
    found = one(_PREVIOUS, {"node": node}).fetchone()
    previous = found and {"origin": found[0], "oseq": found[1], "digest": found[2].hex()}
    origin = node + _random(8)
    origin_id = one("INSERT INTO origins (name) VALUES (?)", (origin,)).lastrowid
    connection.commit()
    assert origin_id is not None
    tail = Tail(
        chain=Chain(origin, at=one(_LAST_AT).fetchone()[0] or 0),
        origin_id=origin_id,
        position=one(rows.HEAD).fetchone()[0],
        last_stream_id=one(_LAST_STREAM).fetchone()[0],
        types={name: number for number, name in one("SELECT id, name FROM types")},
    )
    return Opened(connection, tail, previous, one(rows.SEALED).fetchone()[0], one(rows.DROPPED).fetchone()[0])


def _random(length: int) -> str:
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(length))
