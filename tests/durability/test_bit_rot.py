"""Single bits of the log's file turn over: `verify` finds it wherever it was, and a start finds it near the end."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from random import Random

import pytest

from eventstore import rows as sql
from eventstore.database import open_database
from eventstore.errors import LogCorrupt, LogUnavailable
from eventstore.reader import Reader
from replay.verify import verified
from tests.durability.btree import Pages
from tests.replay.recorded_log import Recorder

TABLES = ("ledger", "frames", "blobs", "streams", "types", "origins")
LONG = pytest.param(10_000, marks=pytest.mark.soak)


@dataclass(frozen=True, slots=True)
class Flip:
    """One bit of the byte at `offset`."""

    offset: int
    bit: int

    def of(self, content: bytes) -> bytes:
        damaged = bytearray(content)
        damaged[self.offset] ^= self.bit
        return bytes(damaged)


@dataclass(frozen=True, slots=True)
class Sound:
    """A log's file, which offsets in it hold rows, lead to them, belong to indexes, or are of no consequence (their bit
    of value 8)."""

    content: bytes
    rows: dict[str, Sequence[int]]
    inner: Sequence[int]
    indexes: Sequence[int]
    unread: frozenset[int]


async def recorded(folder: Path) -> Sound:
    """Some exchanges, one with an answer over several pages, one whose content was not retained, one without an end."""
    async with Recorder(folder) as recorder:
        for number in range(12):
            await recorder.exchange(*(f"word {number} {place}" for place in range(20)), "x" * 200)
        await recorder.exchange("y" * 9_000)
        await recorder.exchange("secret", retention="none")
        await recorder.asked()
    content = (folder / sql.FILE).read_bytes()
    with closing(sqlite3.connect(folder / sql.FILE)) as shell:
        roots = dict(shell.execute("SELECT name, rootpage FROM sqlite_schema WHERE type = 'table'"))
        indexes = [root for (root,) in shell.execute("SELECT rootpage FROM sqlite_schema WHERE type = 'index'")]
    pages = Pages(content)
    return Sound(
        content,
        {table: [*chain(*pages.rows(roots[table]))] for table in TABLES},
        [*chain(*(found for table in TABLES for found in pages.inner(roots[table])))],
        [*chain(*(found for root in indexes for found in pages.entries(root)))],
        frozenset(
            chain(*(pages.unread(roots[table]) for table in ("ledger", "frames", "streams", "types", "origins")))
        ),
    )


def unnoticed(sound: Sound, offsets: Sequence[int], count: int, notices: Callable[[bytes], bool]) -> list[Flip]:
    """Of so many random flips, those that were not noticed though somebody reads the bit."""
    random = Random(count)
    flips = [Flip(random.choice(offsets), 1 << random.randrange(8)) for _ in range(count)]
    missed = [flip for flip in flips if not notices(flip.of(sound.content))]
    return [flip for flip in missed if flip.bit != 8 or flip.offset not in sound.unread]


class Unstructured(Reader):
    """The bug: to leave out what SQLite checks by itself."""

    def structure(self) -> list[str]:
        return []


def verify_notices(folder: Path, kind: type[Reader] = Reader) -> Callable[[bytes], bool]:
    def notices(content: bytes) -> bool:
        (folder / sql.FILE).write_bytes(content)
        try:
            with kind(folder) as reader:
                return bool(verified(reader)["findings"])
        except (LogCorrupt, LogUnavailable):
            return True

    return notices


def sqlite_notices(folder: Path) -> Callable[[bytes], bool]:
    """The bug: to trust what SQLite checks by itself."""

    def notices(content: bytes) -> bool:
        (folder / sql.FILE).write_bytes(content)
        with Reader(folder) as reader:
            try:
                return bool(reader.structure())
            except LogCorrupt:
                return True

    return notices


def start_notices(folder: Path) -> Callable[[bytes], bool]:
    def notices(content: bytes) -> bool:
        for left in folder.iterdir():
            left.unlink()
        (folder / sql.FILE).write_bytes(content)
        try:
            open_database(folder / sql.FILE, "power").connection.close()
        except LogCorrupt:
            return True
        return False

    return notices


@pytest.mark.parametrize("count", [300, LONG])
async def test_verify_finds_every_bit_that_turned_over_in_a_row(folder: Path, count: int) -> None:
    sound = await recorded(folder / "logs")
    notices = verify_notices(folder)
    assert not notices(sound.content)
    assert unnoticed(sound, [*chain(*sound.rows.values())], count, notices) == []


async def test_verify_finds_every_bit_that_turned_over_in_a_name(folder: Path) -> None:
    sound = await recorded(folder / "logs")
    names = [*chain(*(sound.rows[table] for table in ("streams", "types", "origins")))]
    assert unnoticed(sound, names, 100, verify_notices(folder)) == []


async def test_what_sqlite_checks_by_itself_misses_most_of_it(folder: Path) -> None:
    sound = await recorded(folder / "logs")
    assert len(unnoticed(sound, [*chain(*sound.rows.values())], 100, sqlite_notices(folder))) > 50


@pytest.mark.parametrize("count", [300, LONG])
async def test_a_start_finds_every_bit_that_turned_over_in_an_event_near_the_end(folder: Path, count: int) -> None:
    sound = await recorded(folder / "logs")
    found = folder / "found"
    found.mkdir()
    assert not start_notices(found)(sound.content)
    assert unnoticed(sound, sound.rows["ledger"], count, start_notices(found)) == []


def about_the_node(sound: Sound) -> list[Flip]:
    """Every bit of the row that says whose log it is: its key, its value, and what says how long these are."""
    found = re.search(rb"noden[a-z0-9]{8}", sound.content)
    assert found is not None
    return [Flip(offset, 1 << bit) for offset in range(found.start() - 3, found.end()) for bit in range(8)]


@pytest.mark.parametrize("notices", [start_notices, verify_notices])
async def test_every_bit_of_the_nodes_id_that_turned_over_is_found(
    folder: Path, notices: Callable[[Path], Callable[[bytes], bool]]
) -> None:
    sound, found = await recorded(folder / "logs"), folder / "found"
    found.mkdir()
    assert not notices(found)(sound.content)
    assert [flip for flip in about_the_node(sound) if not notices(found)(flip.of(sound.content))] == []


async def test_nobody_else_minds_the_nodes_id(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bug: whatever stands there is the node. Its incarnations are then cut apart."""
    monkeypatch.setattr(sql, "NODE_KNOWN", "SELECT 1")
    sound, found = await recorded(folder / "logs"), folder / "found"
    found.mkdir()
    letters = [flip for flip in about_the_node(sound)[-9 * 8 :] if flip.bit < 128]
    assert not any(start_notices(found)(flip.of(sound.content)) for flip in letters)


@pytest.mark.parametrize("count", [300, LONG])
async def test_verify_finds_every_bit_that_turned_over_in_an_index(folder: Path, count: int) -> None:
    sound = await recorded(folder / "logs")
    assert unnoticed(sound, sound.indexes, count, verify_notices(folder)) == []


async def test_without_what_sqlite_checks_bits_of_an_index_are_missed(folder: Path) -> None:
    sound = await recorded(folder / "logs")
    verifies = verify_notices(folder, Unstructured)

    def notices(content: bytes) -> bool:
        try:
            return verifies(content)
        except LookupError:
            return True  # it asked for what the index promised

    assert len(unnoticed(sound, sound.indexes, 100, notices)) > 30


@pytest.mark.parametrize("count", [300, LONG])
async def test_99_of_100_bits_that_lead_to_rows_are_found(folder: Path, count: int) -> None:
    """Page headers, pointers and keys between pages. What is missed has no effect: SQLite masks a pointer's upper four
    bits, and reads the counts of free space only to write."""
    sound = await recorded(folder / "logs")
    missed = len(unnoticed(sound, sound.inner, count, verify_notices(folder)))
    print(f"bits that lead to rows: {missed} of {count} missed")
    assert missed <= count // 100
