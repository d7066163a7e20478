"""An archived segment gives back what went in, and any changed byte of its file is found."""

from __future__ import annotations

import struct
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from eventstore.archive import SegmentReader, write_segment
from eventstore.archive_format import unpack
from eventstore.archived import file_of
from eventstore.archiving import Written
from eventstore.envelope import Recorded, RecordedEvent
from eventstore.errors import LogCorrupt
from eventstore.memory import MemoryLog
from eventstore.reader import Reader
from eventstore.sqlite import SQLiteLog
from tests.eventstore.archiver import Small, dropped, leaves_open, sealed
from tests.eventstore.builders import happened, record_run, write


async def recorded(runs: int = 3, size: int = 10) -> list[Recorded]:
    log = MemoryLog()
    for number in range(runs):
        await record_run(log, f"request-{number}", b"x" * size, b"y")
    await log.append(write("request-last", 0, happened(n=1), happened(n=2)))
    return await log.read(0, 100_000)


def whole(path: Path) -> bool:
    try:
        with SegmentReader(path) as reader:
            reader.verify()
    except LogCorrupt:
        return False
    return True


async def test_the_rows_come_back_as_they_were(tmp_path: Path) -> None:
    rows = await recorded(runs=1_100, size=4_000)  # several blocks
    written = write_segment(tmp_path / "archive" / "a.segment", rows)
    assert (written.first, written.through) == (1, len(rows))
    assert written.events + written.frames == len(rows)
    with SegmentReader(tmp_path / "archive" / "a.segment") as reader:
        assert len(reader.segment.blocks) > 1
        assert list(reader.rows()) == rows
        assert list(reader.rows(1_000)) == rows[1_000:]


async def test_one_request_is_read_by_the_index(tmp_path: Path) -> None:
    rows = await recorded(runs=1_100, size=4_000)
    write_segment(tmp_path / "a.segment", rows)
    with SegmentReader(tmp_path / "a.segment") as reader:
        events = reader.read_stream("request-900")
        assert [event.type for event in events] == ["run_opened", "run_closed"]
        frames = reader.read_frames(events[0].position, events[1].position)
        assert frames == rows[events[0].position : events[1].position - 1]
        assert reader.read_stream("request-unknown") == []


async def test_a_long_run_is_read_piece_by_piece_without_unfolding_all_of_it_each_time(tmp_path: Path) -> None:
    log = MemoryLog()
    await record_run(log, "request-1", *(b"%04000d" % number for number in range(2_000)))
    rows = await log.read(0, 100_000)
    write_segment(tmp_path / "a.segment", rows)
    with Counting(tmp_path / "a.segment") as reader:
        pieces = range(1, len(rows), 100)
        found = [row for after in pieces for row in reader.read_frames(1, after + 100, after)]
        assert found == rows[1:-1]
        assert len(reader.segment.blocks) > 2
        assert reader.unfolded <= 2 * len(reader.segment.blocks)


class Counting(SegmentReader):
    unfolded = 0

    def _block(self, number: int) -> list[Recorded]:
        self.unfolded += 1
        return super()._block(number)


async def test_the_chain_can_go_on_from_the_index(tmp_path: Path) -> None:
    rows = await recorded()
    written = write_segment(tmp_path / "a.segment", rows)
    last = rows[-1]
    assert isinstance(last, RecordedEvent)
    assert written.chains == {last.origin: (last.oseq, last.digest.hex())}


async def test_a_flipped_bit_in_any_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.segment"
    write_segment(path, await recorded())
    assert whole(path)
    content = path.read_bytes()
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert not whole(path), f"byte {at} of {len(content)}"


async def test_a_file_that_was_cut_short_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.segment"
    write_segment(path, await recorded())
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert not whole(path)


async def test_a_missing_position_is_refused_and_leaves_no_segment(tmp_path: Path) -> None:
    rows = await recorded()
    with pytest.raises(LogCorrupt, match="missing"):
        write_segment(tmp_path / "a.segment", rows[:3] + rows[4:])
    assert not (tmp_path / "a.segment").exists()


async def test_a_broken_chain_is_refused(tmp_path: Path) -> None:
    rows = await recorded()
    last = rows[-1]
    assert isinstance(last, RecordedEvent)
    with pytest.raises(LogCorrupt, match="digest"):
        write_segment(tmp_path / "a.segment", [*rows[:-1], replace(last, digest=bytes(32))])
    assert not (tmp_path / "a.segment").exists()


async def test_an_attempt_that_was_cut_off_is_done_again(tmp_path: Path) -> None:
    rows = await recorded()
    (tmp_path / "a.segment.partial").write_bytes(b"half of it")
    write_segment(tmp_path / "a.segment", rows)
    assert [path.name for path in tmp_path.iterdir()] == ["a.segment"]


class Mistaken(Small):
    """The bug: what it writes is not quite what it was given."""

    def _write(self, first: int, through: int) -> Written:
        written = super()._write(first, through)
        path = file_of(self._data_dir, (first, through))
        with SegmentReader(path) as reader:
            *rows, last = reader.rows()
        assert isinstance(last, RecordedEvent)
        write_segment(path, [*rows, replace(last, version=last.version + 1)])
        return written


async def test_twin_whose_file_says_something_else_is_seen_before_rows_go(tmp_path: Path) -> None:
    log = await SQLiteLog.open(tmp_path)
    await record_run(log, "request-1", b"x")
    try:
        with pytest.raises(LogCorrupt, match="does not hold the rows"):
            await Mistaken(log, tmp_path, leaves_open, sealed, dropped).archive(1 << 62)
    finally:
        await log.close()
    with Reader(tmp_path) as reader:
        assert (reader.head(), reader.sealed()) == (3, 0)


class Trusting(SegmentReader):
    """The bug: blocks are taken as they are, and not compared with the digests of the index."""

    def _block(self, number: int) -> list[Recorded]:
        block = self.segment.blocks[number]
        packed = self._at(block.offset, block.length)
        return unpack(self.segment.format, replace(block, digest=sha256(packed).hexdigest()), packed)


async def test_twin_without_the_digests_flipped_bits_pass(tmp_path: Path) -> None:
    path = tmp_path / "a.segment"
    write_segment(path, await recorded())
    content = path.read_bytes()
    with SegmentReader(path) as reader:
        block = reader.segment.blocks[0]
    assert any(trusted(path, content, at) for at in range(block.offset, block.offset + block.length))


def trusted(path: Path, content: bytes, at: int) -> bool:
    """Whether the reader with the bug sees nothing wrong, with one bit at `at` flipped."""
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    try:
        with Trusting(path) as reader:
            reader.verify()
    except (LogCorrupt, ValueError, TypeError, IndexError, struct.error):
        return False
    return True
