"""A log that an earlier version wrote is read, proven, gone on with and archived further.

`log_of_version_2.tar.xz` is a data directory with schema version 2 of events.db and two segments of the first format.
"""

from __future__ import annotations

import tarfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import zstandard

from eventstore.archive import SegmentReader, write_segment
from eventstore.archive_format import FIRST, NEWEST
from eventstore.archived import file_of
from eventstore.archiving import Written
from eventstore.envelope import ANY_VERSION, RecordedEvent
from eventstore.reader import Reader
from eventstore.repair_archive import mend_archive
from eventstore.sqlite import SQLiteLog
from eventstore.verify import verify
from tests.eventstore.archiver import Small, dropped, leaves_open, sealed
from tests.eventstore.builders import run_of, write
from tests.eventstore.test_archiving import record
from tests.eventstore.test_repair_archive import copies_of
from tests.spoilt import failure

OLD = Path(__file__).with_name("log_of_version_2.tar.xz")
ROWS, ARCHIVED = 342, 200
HEAD = "b4842b79567093ad7a7d14374a4e1e9ddca697d34a01007b05e0f0bfd09c258d"
"""The digest of its last event, which binds all the others."""


def unpacked(directory: Path) -> Path:
    with tarfile.open(OLD) as archive:
        archive.extractall(directory, filter="data")
    return directory


def whole(data_dir: Path) -> bool:
    with Reader(data_dir) as reader:
        rows = list(reader.rows())
        last = next(row for row in rows if row.position == ROWS)
        assert isinstance(last, RecordedEvent)
        found = [*verify(rows, run_of), *reader.segment_damages(), *reader.structure()]
        return last.digest.hex() == HEAD and found == []


def node_events(data_dir: Path) -> str:
    """A digest over the stream that lies in all segments and in live rows."""
    with Reader(data_dir) as reader:
        return sha256(b"".join(event.data for event in reader.read_stream("node-a", after=0)[:60])).hexdigest()


async def test_an_old_log_is_read_and_proven(tmp_path: Path) -> None:
    assert whole(unpacked(tmp_path))
    with Reader(tmp_path) as reader:
        assert (reader.head(), reader.sealed()) == (ROWS, ARCHIVED)
        for number in (0, 1, 30, 59):
            events = reader.read_stream(f"request-{number}")
            assert [event.type for event in events] == ["run_opened", "run_closed"]
            assert reader.read_frames(events[0].position, events[1].position)


def test_an_old_block_can_be_written_again(tmp_path: Path) -> None:
    for path in sorted((unpacked(tmp_path) / "archive").iterdir()):
        with SegmentReader(path) as reader:
            (block,) = reader.segment.blocks
            plain = zstandard.decompress(path.read_bytes()[block.offset : block.offset + block.length])
            assert FIRST.packed(list(reader.rows())) == plain


class Earlier(Small):
    """As an earlier version did it."""

    def _write(self, first: int, through: int) -> Written:
        written, path = super()._write(first, through), file_of(self._data_dir, (first, through))
        with Reader(self._data_dir) as reader:
            write_segment(path, reader.rows(first - 1, until=through), FIRST)
        return replace(written, digest=sha256(path.read_bytes()).hexdigest())


async def test_a_missing_file_of_the_first_format_is_made_again_to_the_byte(tmp_path: Path) -> None:
    rows = await record(tmp_path, runs=40)
    log = await SQLiteLog.open(tmp_path)
    await Earlier(log, tmp_path, leaves_open, sealed, dropped).archive(180)
    await log.close()
    path = file_of(tmp_path, (1, 100))
    content = path.read_bytes()
    assert content.startswith(FIRST.magic)
    path.unlink()
    mended = mend_archive(tmp_path, tmp_path / "aside", copies_of(rows), run_of)
    assert mended.lost == []
    mended.put_in_place()
    assert path.read_bytes() == content


async def test_an_old_log_is_gone_on_with_and_archived_beside_its_old_segments(tmp_path: Path) -> None:
    before = node_events(unpacked(tmp_path))
    log = await SQLiteLog.open(tmp_path)
    await log.append(write("node-a", ANY_VERSION))
    await Small(log, tmp_path, leaves_open, sealed, dropped).archive(1 << 62)
    await log.close()
    formats = []
    for path in sorted((tmp_path / "archive").iterdir()):
        with SegmentReader(path) as reader:
            formats.append(reader.segment.format)
    assert formats == [FIRST] * 2 + [NEWEST] * 2
    assert whole(tmp_path)
    assert node_events(tmp_path) == before


@pytest.mark.parametrize(
    ("bug", "test", "said"),
    [
        ("newest_alone", "test_an_old_log_is_read_and_proven", "no archived segment of a known version"),
        ("newest_names", "test_an_old_log_is_read_and_proven", "assert [] == "),
        ("other_times", "test_an_old_block_can_be_written_again", "assert b"),
        ("repaired_anew", "test_a_missing_file_of_the_first_format_is_made_again_to_the_byte", "do not make the file"),
        ("archived_anew", "test_an_old_log_is_gone_on_with_and_archived_beside_its_old_segments", "At index 2 diff"),
    ],
)
def test_twin_that_minds_no_old_format(bug: str, test: str, said: str) -> None:
    assert said in failure("tests.eventstore.careless", bug, f"eventstore/test_old_formats.py::{test}")
