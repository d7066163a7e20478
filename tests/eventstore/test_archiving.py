"""Archived or live, a log is one: nothing is lost or doubled, whenever archiving is killed, and nothing open goes."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from eventstore.archiving import Archiving, position_before
from eventstore.envelope import ANY_VERSION, NEW_STREAM, NewEvent, Recorded, RecordedEvent
from eventstore.errors import LogCorrupt, LogError, LogRefused, WrongExpectedVersion
from eventstore.incarnations import Incarnations
from eventstore.reader import Reader
from eventstore.sealing import Sealing
from eventstore.sqlite import SQLiteLog
from eventstore.verify import verify
from tests.eventstore.archiver import STEPS, Small, dropped, leaves_open, sealed
from tests.eventstore.builders import happened, record_run, run_of, write

EVERYTHING = 1 << 62


async def record(data_dir: Path, runs: int = 60) -> list[Recorded]:
    """A stopped log of `runs` exchanges of five rows each, with an event of its node's between."""
    log = await SQLiteLog.open(data_dir, durability="process")
    for number in range(runs):
        await record_run(log, f"request-{number}", b"x" * number, b"y", b"z")
        await log.append(write("node-a", ANY_VERSION))
    await log.close()
    with Reader(data_dir) as reader:
        return list(reader.rows())


def archiving(log: SQLiteLog, data_dir: Path, kind: type[Archiving] = Small) -> Archiving:
    return kind(log, data_dir, leaves_open, sealed, dropped)


async def archive(data_dir: Path, until: int = EVERYTHING, kind: type[Archiving] = Small) -> int:
    """Archive a stopped log; how many segments."""
    log = await SQLiteLog.open(data_dir)
    try:
        return len(await archiving(log, data_dir, kind).archive(until))
    finally:
        await log.close()


def read(data_dir: Path) -> list[Recorded]:
    """All rows without those that archiving adds, each once, proven."""
    with Reader(data_dir) as reader:
        rows = list(reader.rows())
        assert [row.position for row in rows] == list(range(reader.dropped() + 1, reader.head() + 1))
        assert list(verify(rows, run_of, sealed=reader.dropped())) == []
        assert list(reader.segment_damages()) == []
    return [row for row in rows if not isinstance(row, RecordedEvent) or row.type != "segment_sealed"]


def live(data_dir: Path) -> int:
    with Reader(data_dir) as reader:
        return len(reader._live(0, EVERYTHING, EVERYTHING, True))


async def test_archived_and_live_rows_are_one_log(tmp_path: Path) -> None:
    rows = await record(tmp_path)
    assert await archive(tmp_path, until=250) == 3
    assert read(tmp_path) == rows
    with Reader(tmp_path) as reader:
        assert reader.sealed() == 250
        for after in (0, 1, 99, 100, 101, 249, 250, 251):
            assert reader.read(after, 40, until=290) == rows[after : min(after + 40, 290)]
            events = [row for row in rows[after:] if isinstance(row, RecordedEvent)]
            assert reader.read(after, 70, until=len(rows), frames=False) == events[:70]
        for number in (0, 16, 41, 42, 59):
            events = reader.read_stream(f"request-{number}")
            assert [event.type for event in events] == ["run_opened", "run_closed"]
            opened, closed = (event.position for event in events)
            assert reader.read_frames(opened, closed) == rows[opened : closed - 1]
            assert reader.read_frames(opened, closed, after=opened + 1) == rows[opened + 1 : closed - 1]
        node = [row for row in rows if isinstance(row, RecordedEvent) and row.stream == "node-a"]
        assert reader.read_stream("node-a") == node
        assert reader.read_stream("node-a", after=50) == node[50:]


async def test_the_log_reads_its_archive_while_rows_leave_it(tmp_path: Path) -> None:
    rows = await record(tmp_path, runs=120)
    log = await SQLiteLog.open(tmp_path)
    work = asyncio.create_task(archiving(log, tmp_path).archive(EVERYTHING))
    rounds = 0
    while not work.done():
        assert await log.read(0, 400, until=400) == rows[:400]
        assert [event.version for event in await log.read_stream("node-a")] == list(range(1, 121))
        assert len(await log.read_frames(1, 5)) == 3
        rounds += 1
    assert len(await work) == 8
    assert rounds > 2
    assert (await log.read(len(rows), 1_000))[0].position == len(rows) + 1
    await log.close()


class Overtaken(Reader):
    """Rows leave just when it is about to read the live ones."""

    overtaken = False

    def _overtake(self) -> None:
        if not self.overtaken:
            self.overtaken = True
            asyncio.run(archive(self.path.parent, until=250))

    def _live(self, after: int, until: int, size: int, frames: bool) -> list[Recorded]:
        self._overtake()
        return super()._live(after, until, size, frames)

    def _live_stream(self, stream: str, after: int) -> list[tuple[Any, ...]]:
        self._overtake()
        return super()._live_stream(stream, after)


class Unaware(Overtaken):
    """The bug: it does not look whether rows have left."""

    def sealed(self) -> int:
        return 0


@pytest.mark.parametrize(("kind", "whole"), [(Overtaken, True), (Unaware, False)])
def test_rows_that_leave_under_a_reader_are_not_missed(tmp_path: Path, kind: type[Reader], whole: bool) -> None:
    rows = asyncio.run(record(tmp_path))
    shutil.copytree(tmp_path, tmp_path / "again")
    node = [row for row in rows if isinstance(row, RecordedEvent) and row.stream == "node-a"]
    with kind(tmp_path) as reader, kind(tmp_path / "again") as again:
        assert (reader.read(0, 1_000, until=len(rows)) == rows) is whole
        assert (again.read_stream("node-a") == node) is whole


@pytest.mark.parametrize("proving", [True, False])
def test_nor_taken_for_damage_where_older_ones_have_left_before(tmp_path: Path, proving: bool) -> None:
    rows = asyncio.run(record(tmp_path))
    node = [row for row in rows if isinstance(row, RecordedEvent) and row.stream == "node-a"]
    asyncio.run(archive(tmp_path, until=100))
    with Overtaken(tmp_path, proving=proving) as reader:
        assert reader.read_stream("node-a") == node
        assert reader.overtaken


class OvertakenLog(SQLiteLog):
    """The same of a log that is open: its first rows ever leave just when it is about to read them."""

    overtaken = False

    async def _fetch(self, sql: str, parameters: dict[str, Any]) -> list[Any]:
        if not self.overtaken:
            self.overtaken = True
            await archiving(self, self._path.parent).archive(250)
        return await super()._fetch(sql, parameters)


class UnawareLog(OvertakenLog):
    """The bug: it does not ask afterwards."""

    _sealed = property(lambda self: 0, lambda self, position: None)  # type: ignore[assignment]


READS: dict[str, Callable[[Any, int], Any]] = {
    "all of it": lambda log, head: log.read(0, 1_000, until=head),
    "a stream": lambda log, head: log.read_stream("node-a"),
    "a run": lambda log, head: log.read_frames(1, head),
}
"""Of a log, or of a reader."""


@pytest.mark.parametrize("what", READS)
@pytest.mark.parametrize(("kind", "whole"), [(OvertakenLog, True), (UnawareLog, False)])
async def test_nor_under_the_log_itself(tmp_path: Path, what: str, kind: type[SQLiteLog], whole: bool) -> None:
    head = len(await record(tmp_path))
    with Reader(tmp_path) as reader:
        expected = READS[what](reader, head)
    log = await kind.open(tmp_path)
    try:
        with suppress(LogCorrupt):  # the bug, where what is there begins too late
            assert (await READS[what](log, head) == expected) is whole
            return
        assert not whole
    finally:
        await log.close()


async def test_appending_goes_on_where_the_archive_ends(tmp_path: Path) -> None:
    rows = await record(tmp_path)
    await archive(tmp_path)
    log = await SQLiteLog.open(tmp_path)
    await log.append(write("node-a", 60, happened(n=61)))
    with pytest.raises(WrongExpectedVersion):
        await log.append(write("request-0", NEW_STREAM))
    await log.append(write("request-0", 2, NewEvent("run_closed", 1, b'{"frames":0,"frames_digest":""}')))
    assert log.previous is not None
    await log.close()
    with Reader(tmp_path) as reader:
        assert [event.version for event in reader.read_stream("node-a")] == list(range(1, 62))
        assert [event.version for event in reader.read_stream("request-0")] == [1, 2, 3]
        assert list(reader.rows(until=len(rows))) == rows
    incarnations = Incarnations(tmp_path / "events.db")
    first, *_, second = incarnations.spans()
    assert second.last > first.last
    assert (first.first_oseq, first.first, first.last) == (1, 1, len(rows))
    last = rows[-1]
    assert isinstance(last, RecordedEvent)
    assert incarnations.find(last.origin, last.oseq) == (last.position, last.digest)
    incarnations.close()


async def test_a_chain_that_does_not_go_on_from_the_archive_stops_the_start(tmp_path: Path) -> None:
    """The new rows' digests are checked against what the archive ended with."""
    log = await SQLiteLog.open(tmp_path)
    await record_run(log, "request-1", b"x")
    await archiving(log, tmp_path).archive(EVERYTHING)
    await log.close()
    with sqlite3.connect(tmp_path / "events.db") as shell:
        shell.execute("DROP TRIGGER archived_origins_no_update")
        shell.execute("UPDATE archived_origins SET digest = zeroblob(32)")
    with pytest.raises(LogCorrupt, match="digest"):
        await SQLiteLog.open(tmp_path)


async def test_what_is_open_stays(tmp_path: Path) -> None:
    await record(tmp_path, runs=10)
    log = await SQLiteLog.open(tmp_path)
    opened = await log.append(write("request-open", NEW_STREAM, NewEvent("run_opened", 1, b"{}")))
    await record_run(log, "request-later", b"x")
    done = await archiving(log, tmp_path).archive(EVERYTHING)
    assert done[-1].through == opened.first - 1
    assert await archiving(log, tmp_path).archive(EVERYTHING) == []
    await log.append(write("request-open", 1, NewEvent("run_closed", 1, b'{"frames":0,"frames_digest":""}')))
    again = await archiving(log, tmp_path).archive(EVERYTHING)
    assert again[0].first == opened.first
    await log.close()


class Hasty(Small):
    """The bug: whatever is old goes, ended or not."""

    def _choose(self, until: int) -> tuple[int, int]:
        self._leaves_open = lambda event: False
        return super()._choose(until)


async def test_twin_that_seals_what_is_open_is_seen(tmp_path: Path) -> None:
    log = await SQLiteLog.open(tmp_path)
    opened = await log.append(write("request-open", NEW_STREAM, NewEvent("run_opened", 1, b"{}")))
    done = await archiving(log, tmp_path, Hasty).archive(EVERYTHING)
    assert done[-1].through >= opened.first
    await log.close()


def killed(data_dir: Path, *arguments: str) -> int:
    command = [sys.executable, "-m", "tests.eventstore.archiver", str(data_dir), *arguments]
    return subprocess.run(command, check=False, cwd=Path(__file__).parents[2]).returncode


async def test_killed_at_any_step_it_loses_and_doubles_nothing(tmp_path: Path) -> None:
    rows = await record(tmp_path / "whole")
    for step in STEPS:
        data_dir = tmp_path / step
        shutil.copytree(tmp_path / "whole", data_dir)
        assert killed(data_dir, step) == -9
        assert read(data_dir) == rows, step
        await archive(data_dir, until=len(rows))
        assert read(data_dir) == rows, step
        left = sorted(path.name for path in (data_dir / "archive").iterdir())
        with Reader(data_dir) as reader:
            assert len(left) == len(reader.segments())
        assert live(data_dir) < 10


async def test_twin_that_deletes_before_the_file_is_there_loses_rows(tmp_path: Path) -> None:
    await record(tmp_path)
    assert killed(tmp_path, "seal", "careless") == -9
    with pytest.raises(LogCorrupt, match="missing"):
        read(tmp_path)


async def test_a_damaged_or_missing_file_is_named(tmp_path: Path) -> None:
    await record(tmp_path)
    await archive(tmp_path)
    first, second = sorted((tmp_path / "archive").iterdir())[:2]
    first.write_bytes(first.read_bytes().replace(b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfe", 1))
    second.unlink()
    with Reader(tmp_path) as reader:
        found = dict(reader.segment_damages())
        assert sorted(found) == [1, 101]
        assert first.name in found[1]
        with pytest.raises(LogError):
            list(reader.rows())


async def test_a_segment_that_is_not_the_next_is_refused_and_the_log_goes_on(tmp_path: Path) -> None:
    rows = await record(tmp_path, runs=2)
    log = await SQLiteLog.open(tmp_path)
    event = NewEvent("segment_sealed", 1, b'{"through":4}')
    with pytest.raises(LogRefused):
        await log.seal(Sealing(1, 5, bytes(32), event))  # its event says 4
    await log.append(write("node-a", ANY_VERSION))
    assert await log.read(0, len(rows), until=len(rows)) == rows
    await log.close()


async def test_a_file_of_the_first_version_is_read_and_taken_further(tmp_path: Path) -> None:
    rows = await record(tmp_path, runs=2)
    with sqlite3.connect(tmp_path / "events.db") as shell:
        for name in ("segments", "dropped", "archived_streams", "archived_origins"):
            shell.execute(f"DROP TABLE {name}")
        shell.execute("PRAGMA user_version = 1")
    assert read(tmp_path) == rows
    with Reader(tmp_path) as reader:
        assert [event.version for event in reader.read_stream("node-a")] == [1, 2]
    assert await archive(tmp_path) == 1
    assert read(tmp_path) == rows


async def test_a_log_set_back_to_an_older_copy_keeps_the_files_of_the_newer_one(tmp_path: Path) -> None:
    await record(tmp_path)
    shutil.copytree(tmp_path, tmp_path / "older")
    await record(tmp_path, runs=0)
    log = await SQLiteLog.open(tmp_path)
    await record_run(log, "request-newer", b"x")
    await archiving(log, tmp_path).archive(EVERYTHING)
    await log.close()
    shutil.copytree(tmp_path / "archive", tmp_path / "older" / "archive")
    log = await SQLiteLog.open(tmp_path / "older")
    await record_run(log, "request-other", b"y")
    await archiving(log, tmp_path / "older").archive(EVERYTHING)
    await log.close()
    read(tmp_path / "older")
    assert len(list((tmp_path / "older" / "archive").glob("*.before"))) == 1


async def test_the_file_shrinks(tmp_path: Path) -> None:
    log = await SQLiteLog.open(tmp_path)
    await asyncio.gather(*(log.append(write("node-a", ANY_VERSION, happened(text="x" * 2_000))) for _ in range(500)))
    await log.close()
    before = (tmp_path / "events.db").stat().st_size
    await archive(tmp_path)
    assert (tmp_path / "events.db").stat().st_size < before / 5


async def test_archiving_ends_where_the_file_cannot_shrink(tmp_path: Path) -> None:
    rows = await record(tmp_path)
    with closing(sqlite3.connect(tmp_path / "events.db")) as shell:
        for statement in ("PRAGMA journal_mode = DELETE", "PRAGMA auto_vacuum = NONE", "VACUUM"):
            shell.execute(statement)
    async with asyncio.timeout(20):
        assert await archive(tmp_path, until=250) == 3
    assert read(tmp_path) == rows


async def kept(through: int) -> None:
    """Nothing is made of these rows."""


async def refused(through: int) -> None:
    raise OSError(f"nothing is kept of rows up to {through}")


async def test_nothing_is_dropped_of_which_nothing_is_kept(tmp_path: Path) -> None:
    rows = await record(tmp_path)
    await archive(tmp_path)
    log = await SQLiteLog.open(tmp_path)
    with pytest.raises(OSError, match="up to 200"):
        await archiving(log, tmp_path).drop(until=250, folded=1_000, keep=refused)
    await log.close()
    assert read(tmp_path) == rows


async def test_segments_are_dropped_whole_and_only_when_folded(tmp_path: Path) -> None:
    rows = await record(tmp_path)
    await archive(tmp_path)
    log = await SQLiteLog.open(tmp_path)
    assert await archiving(log, tmp_path).drop(until=250, folded=100, keep=kept) == []
    assert len(await archiving(log, tmp_path).drop(until=250, folded=101, keep=kept)) == 1
    assert len(await archiving(log, tmp_path).drop(until=250, folded=1_000, keep=kept)) == 1
    assert (await log.read(0, 1))[0].position == 201
    await log.close()
    with Reader(tmp_path) as reader:
        assert reader.dropped() == 200
        assert list(reader.rows(until=len(rows))) == rows[200:]
        assert reader.read_stream("request-0") == []
        assert list(verify(reader.rows(), run_of, sealed=reader.dropped())) == []
    assert len(list((tmp_path / "archive").iterdir())) == 2
    log = await SQLiteLog.open(tmp_path)
    await log.append(write("node-a", 60))  # its version is known although its history is gone
    await log.close()


class Unfolded(Small):
    """The bug: what is old is dropped, whoever still needs it."""

    def _may_go(self, segment: tuple[int, int], until: int, folded: int) -> bool:
        return segment[1] <= until


async def test_twin_that_drops_what_is_not_folded_is_seen(tmp_path: Path) -> None:
    await record(tmp_path)
    await archive(tmp_path)
    log = await SQLiteLog.open(tmp_path)
    assert await archiving(log, tmp_path, Unfolded).drop(until=250, folded=100, keep=kept) != []
    await log.close()


async def test_a_time_is_found_in_the_archive_too(tmp_path: Path) -> None:
    rows = await record(tmp_path)
    await archive(tmp_path, until=150)
    with Reader(tmp_path) as reader:
        for event in rows[::7]:
            if isinstance(event, RecordedEvent):
                before = [row for row in rows if isinstance(row, RecordedEvent) and row.at < event.at]
                assert position_before(reader, event.at) == (before[-1].position if before else 0)
        assert position_before(reader, EVERYTHING) == reader.head()


async def test_who_waits_for_history_leaves_threads_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await record(tmp_path)
    await archive(tmp_path, until=250)
    log = await SQLiteLog.open(tmp_path)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    goes_on = Event()
    monkeypatch.setattr(Reader, "read_stream", lambda self, stream, after: [goes_on.wait(20)])
    waiting = [asyncio.create_task(log.read_stream("request-0")) for _ in range(4)]
    try:
        await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            await asyncio.to_thread(int)
    finally:
        goes_on.set()
    assert await asyncio.gather(*waiting) == [[True]] * 4
    await log.close()
