"""Damaged files of an archive are made anew to the byte, from what is sound in them and from copies; or stay."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from eventstore import rows as statements
from eventstore.archive_ends import ArchiveEnds
from eventstore.archived import Span, file_of
from eventstore.archiving import Archiving
from eventstore.envelope import Recorded, RecordedEvent, RecordedFrames
from eventstore.errors import LogCorrupt, LogLocked
from eventstore.ingest import PulledEvent
from eventstore.reader import Reader
from eventstore.repair import Copies, Mended, Place, mend_events, mend_frames, missing
from eventstore.repair_archive import MendedArchive, mend_archive, sound_rows
from eventstore.repair_file import kept, put_in_place, write_mended
from eventstore.sqlite import SQLiteLog
from replay import repair_beside
from tests.eventstore.archiver import dropped, leaves_open, sealed
from tests.eventstore.builders import run_of
from tests.eventstore.test_archiving import kept as keep
from tests.eventstore.test_archiving import read, record
from tests.eventstore.test_dropped_meanwhile import drop as drop_first

EVERYTHING = 1 << 62


class Tiny(Archiving):
    """Segments that end in the middle of runs."""

    segment_rows = 73


def copies_of(found: list[Recorded]) -> Copies:
    """As JetStream has them."""
    copies, opened = Copies(), dict[int, Place]()
    for row in found:
        if isinstance(row, RecordedFrames):
            bare = replace(row, generation=0, back=0)
            copies.rows.setdefault(opened[row.generation], {})[row.frame] = bare
        else:
            opened[row.position] = row.origin, row.oseq
            event = PulledEvent(row.origin, row.oseq, row.data, row.digest)
            copies.events[row.origin, row.oseq] = row.position, event
    return copies


async def archived(data_dir: Path, drop: int = 0) -> tuple[list[Recorded], Copies]:
    """A log of which most is archived and some is live: its rows, and copies of all that there ever were."""
    await record(data_dir, runs=40)
    log = await SQLiteLog.open(data_dir)
    archiving = Tiny(log, data_dir, leaves_open, sealed, dropped)
    await archiving.archive(180)
    with Reader(data_dir) as reader:
        copies = copies_of(list(reader.rows()))
    await archiving.drop(drop, EVERYTHING, keep)
    await log.close()
    with Reader(data_dir) as reader:
        assert reader.dropped() == (73 if drop else 0)
        return list(reader.rows()), copies


def flipped(path: Path, random: Random) -> None:
    content = bytearray(path.read_bytes())
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    path.write_bytes(content)


def mended(data_dir: Path, copies: Copies) -> MendedArchive:
    return mend_archive(data_dir, data_dir / "aside", copies, run_of)


def segments(data_dir: Path) -> dict[Span, bytes]:
    with Reader(data_dir) as reader:
        return {span: file_of(data_dir, span).read_bytes() for span in reader.segments()}


@pytest.mark.parametrize("drop", [0, 80])
@pytest.mark.parametrize("damage", ["flip", "delete", "cut"])
async def test_every_damaged_file_is_made_anew_to_the_byte(tmp_path: Path, drop: int, damage: str) -> None:
    found, copies = await archived(tmp_path, drop)
    before, random = segments(tmp_path), Random(1)
    for span in before:
        path = file_of(tmp_path, span)
        if damage == "flip":
            flipped(path, random)
        elif damage == "cut":
            path.write_bytes(path.read_bytes()[:-100])
        else:
            path.unlink()
    made = mended(tmp_path, copies)
    assert made.lost == []
    made.put_in_place()
    assert segments(tmp_path) == before
    with Reader(tmp_path) as reader:
        assert list(reader.segment_damages()) == []
        assert list(reader.rows()) == found
    assert len(list((tmp_path / "archive").glob("*.damaged"))) == (0 if damage == "delete" else len(before))


async def test_sound_blocks_need_no_copies(tmp_path: Path) -> None:
    await archived(tmp_path)
    first, *_ = before = segments(tmp_path)
    path = file_of(tmp_path, first)
    path.write_bytes(path.read_bytes() + b"more")
    assert sound_rows(path) == []  # its end is not where it says: not even the index is found
    path.write_bytes(before[first][:-1] + b"?")
    assert mended(tmp_path, Copies()).lost


async def test_one_file_that_cannot_be_made_is_named_and_nothing_takes_its_place(tmp_path: Path) -> None:
    _, copies = await archived(tmp_path)
    _, second, _ = segments(tmp_path)
    flipped(file_of(tmp_path, second), Random(2))
    damaged = file_of(tmp_path, second).read_bytes()
    copies.rows = {}
    made = mended(tmp_path, copies)
    assert made.lost
    assert made.made == []
    assert file_of(tmp_path, second).read_bytes() == damaged


async def test_copies_that_were_never_written_make_no_file(tmp_path: Path) -> None:
    """The run goes on in the next segment, so no event in this one says what its frames are. Without the digest of the
    file (the bug) nothing would be wrong with them: that is the only thing that is said."""
    found, copies = await archived(tmp_path)
    _, second, _ = segments(tmp_path)
    last = found[second[1] - 1]
    assert isinstance(last, RecordedFrames)
    opening = found[last.generation - 1]
    assert isinstance(opening, RecordedEvent)
    file_of(tmp_path, second).unlink()
    assert mended(tmp_path, copies).lost == []
    rows = copies.rows[opening.origin, opening.oseq]
    rows[last.frame] = replace(rows[last.frame], offset_us=last.offset_us + 1)
    (what,) = mended(tmp_path, copies).lost
    assert "do not make the file that was sealed" in what


async def test_mending_that_was_cut_off_between_two_files_is_gone_on_with(tmp_path: Path) -> None:
    _, copies = await archived(tmp_path)
    before, random = segments(tmp_path), Random(3)
    for span in before:
        flipped(file_of(tmp_path, span), random)
    made = mended(tmp_path, copies)
    put_in_place(*made.made[0])
    again = mended(tmp_path, copies)
    assert len(again.made) == len(before) - 1
    again.put_in_place()
    assert segments(tmp_path) == before


async def test_a_reader_that_had_the_damaged_file_open_reads_the_new_one(tmp_path: Path) -> None:
    found, copies = await archived(tmp_path)
    first, *_ = segments(tmp_path)
    with Reader(tmp_path) as reader:
        assert reader.read(0, 10) == found[:10]
        file_of(tmp_path, first).unlink()
        made = mended(tmp_path, copies)
        made.put_in_place()
        assert list(reader.rows()) == found


def spoil(path: Path, found: list[Recorded]) -> None:
    """Other bytes in three rows of each lane."""
    events = [row.position for row in found if isinstance(row, RecordedEvent)]
    frames = [row.position for row in found if isinstance(row, RecordedFrames)]
    with sqlite3.connect(path) as shell:
        shell.executescript("DROP TRIGGER ledger_no_update; DROP TRIGGER frames_no_update")
        for position in events[1:12:5]:
            shell.execute("UPDATE ledger SET data = data || 'x' WHERE position = ?", (position,))
        for position in frames[1:12:5]:
            shell.execute("UPDATE frames SET bytes = bytes || 'x' WHERE position = ?", (position,))
        shell.executescript("DROP TRIGGER archived_streams_no_update; DROP TRIGGER archived_origins_no_update")
        shell.execute("UPDATE archived_streams SET version = 1 WHERE last > 100")
        shell.execute("UPDATE archived_origins SET digest = zeroblob(32)")


@pytest.mark.parametrize("drop", [0, 80])
async def test_live_rows_beside_an_archive_are_made_again(tmp_path: Path, drop: int) -> None:
    found, copies = await archived(tmp_path, drop)
    spoil(tmp_path / statements.FILE, found[-60:])
    archive = mended(tmp_path, copies)
    before = archive.before
    events, frames, head = kept(tmp_path / statements.FILE, before.through)
    live = Mended(before.through, head)
    mend_events(events, copies, live, before)
    mend_frames(frames, copies, run_of, live, before)
    assert live.lost + missing(live) == []
    assert len(live.changed_events) == len(live.changed_frames) == 3
    made = tmp_path / "made"
    made.mkdir()
    write_mended(tmp_path / statements.FILE, made / statements.FILE, live, archive.ends)
    shutil.copytree(tmp_path / "archive", made / "archive")
    with Reader(made) as reader:
        assert list(reader.rows()) == found
        assert reader.read_stream("node-a")[-1].version == 40
        ends = ArchiveEnds(reader.sealed(), reader.dropped())
        assert list(ends.passing(reader.rows())) == found
        assert list(ends.check(reader)) == []
    if not drop:
        read(made)
    with sqlite3.connect(made / statements.FILE) as shell, pytest.raises(sqlite3.IntegrityError):
        shell.execute("INSERT INTO sealed VALUES (1, 0, 1)")
    log = await SQLiteLog.open(made)  # and goes on from there
    await Tiny(log, made, leaves_open, sealed, dropped).archive(EVERYTHING)
    await log.close()
    with Reader(made) as reader:
        assert list(reader.rows(until=found[-1].position)) == found


async def test_what_is_dropped_meanwhile_does_not_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a server, which drops a file that was just made again."""
    _, copies = await archived(tmp_path)
    first, second, _ = (file_of(tmp_path, span) for span in segments(tmp_path))
    flipped(first, Random(3))
    flipped(second, Random(4))

    async def copied(nats: str) -> Copies:
        return copies

    def overtaken(*given: Any) -> MendedArchive:
        made = mend_archive(*given)
        assert len(made.made) == 2
        drop_first(tmp_path)
        return made

    monkeypatch.setattr(repair_beside, "run_of", run_of)
    monkeypatch.setattr(repair_beside, "copied_from", copied)
    monkeypatch.setattr(repair_beside, "mend_archive", overtaken)
    monkeypatch.setattr(repair_beside, "_asked", lambda *_: {})
    report = await asyncio.to_thread(repair_beside.repaired_beside, tmp_path, "nowhere", LogLocked("by a server"))
    assert report["lost"] == []
    assert second.exists()
    assert not first.exists()


async def test_dropping_takes_damaged_files_too_and_what_was_kept_of_them(tmp_path: Path) -> None:
    _, copies = await archived(tmp_path)
    first, second, _ = (file_of(tmp_path, span) for span in segments(tmp_path))
    flipped(first, Random(3))
    mended(tmp_path, copies).put_in_place()
    flipped(first, Random(4))
    flipped(second, Random(5))
    drop_first(tmp_path)
    assert not first.exists()
    assert not first.with_name(f"{first.name}.damaged").exists()
    assert second.exists()


async def test_a_head_that_no_file_can_have_is_refused_at_once(tmp_path: Path) -> None:
    """A bit of the last row's position turned over: looking up each row before it would never end."""
    await record(tmp_path, runs=2)
    with sqlite3.connect(tmp_path / statements.FILE) as shell:
        for (name,) in shell.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            shell.execute(f"DROP TRIGGER {name}")
        shell.execute("UPDATE ledger SET position = position + (1 << 40) WHERE position = 12")
    with pytest.raises(LogCorrupt, match="so many rows"):
        kept(tmp_path / statements.FILE, 0)
