"""What is particular to the durable log: its file, its lock, its incarnations, its queue, and a disk that refuses."""

from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from eventstore.batch import Waiting
from eventstore.database import sqlite_warnings
from eventstore.envelope import NEW_STREAM
from eventstore.errors import LogBusy, LogCorrupt, LogLocked, LogUnavailable
from eventstore.frames import FrameRun, Template
from eventstore.reader import Reader
from eventstore.sqlite import ACKNOWLEDGED_AT_ONCE, QUEUED_APPENDS, SQLiteLog
from eventstore.writer import Writer
from tests.eventstore.builders import happened, record_run, write


async def test_files_are_private(tmp_path: Path) -> None:
    log = await SQLiteLog.open(tmp_path / "new" / "logs")
    await log.append(write("a", NEW_STREAM))
    modes = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "new" / "logs").iterdir()}
    await log.close()
    assert modes == dict.fromkeys(("ballast", "events.db", "events.db-wal", "events.db-shm", "server.lock"), 0o600)
    assert (tmp_path / "new" / "logs").stat().st_mode & 0o777 == 0o700
    assert {file.name for file in (tmp_path / "new" / "logs").iterdir()} == {"events.db", "server.lock"}


async def test_a_second_server_is_refused_and_told_who_owns_the_directory(tmp_path: Path) -> None:
    log = await SQLiteLog.open(tmp_path)
    with pytest.raises(LogLocked, match=rf"another abstractcore-server \(pid {os.getpid()}\) owns {tmp_path}"):
        await SQLiteLog.open(tmp_path)
    await log.close()
    again = await SQLiteLog.open(tmp_path)
    await again.close()


async def test_it_is_the_lock_that_refuses_the_second_server(tmp_path: Path) -> None:
    log = await SQLiteLog.open(tmp_path)
    log._lock.release()
    twin = await SQLiteLog.open(tmp_path)
    await twin.close()
    await log.close()


async def test_every_start_is_a_new_incarnation_that_can_cite_the_one_before(tmp_path: Path) -> None:
    first = await SQLiteLog.open(tmp_path)
    assert first.previous is None
    await first.append(write("a", NEW_STREAM, happened(), happened()))
    [*_, last] = await first.read_stream("a")
    await first.close()
    idle = await SQLiteLog.open(tmp_path)
    await idle.close()
    third = await SQLiteLog.open(tmp_path)
    assert third.previous == {"origin": first.origin, "oseq": 2, "digest": last.digest.hex()}
    assert len({first.origin, idle.origin, third.origin}) == 3
    assert {log.origin[:9] for log in (first, idle, third)} == {first.origin[:9]}
    appended = await third.append(write("a", 2))
    [event] = await third.read_stream("a", after=2)
    assert (event.oseq, event.position, appended.last) == (1, 3, 3)
    await third.close()


async def test_the_clock_goes_on_after_a_restart_with_the_wall_clock_set_back(tmp_path: Path) -> None:
    ahead = await SQLiteLog.open(tmp_path, now_us=lambda: 2_000_000_000_000_000)
    await ahead.append(write("a", NEW_STREAM))
    await ahead.close()
    log = await SQLiteLog.open(tmp_path, now_us=lambda: 1_000_000_000_000_000)
    assert (await log.append(write("a", 1))).at == 2_000_000_000_000_001
    await log.close()


class OneByOne(Writer):
    """The bug: a transaction, and an fsync, for every append."""

    appends_per_commit = 1


class OneByOneLog(SQLiteLog):
    writer = OneByOne


async def commits_of_appends_made_at_once(kind: type[SQLiteLog], data_dir: Path, count: int) -> int:
    heads: list[int] = []
    log = await kind.open(data_dir, on_commit=heads.append)
    await asyncio.gather(*(log.append(write(f"request-{n}", NEW_STREAM)) for n in range(count)))
    await log.close()
    assert heads[-1] == count
    return len(heads)


async def test_appends_that_wait_together_are_committed_together(tmp_path: Path) -> None:
    assert await commits_of_appends_made_at_once(SQLiteLog, tmp_path / "grouped", 200) < 100
    assert await commits_of_appends_made_at_once(OneByOneLog, tmp_path / "twin", 200) == 200


class AllAtOnceLog(SQLiteLog):
    """The bug: a commit of any size is told in one turn of the loop."""

    def _tell(self) -> None:
        while self._durable:
            super()._tell()


async def turns_of_a_large_commit(kind: type[SQLiteLog], data_dir: Path) -> int:
    """In how many turns of the loop the appends of one commit hear of it. Each finds itself in the log by then."""
    log = await kind.open(data_dir)
    loop = asyncio.get_running_loop()
    turn, told = 0, set[int]()

    def tick() -> None:
        nonlocal turn
        turn += 1
        loop.call_soon(tick)

    async def appended(number: int) -> None:
        done = await log.append(write(f"request-{number}", NEW_STREAM))
        told.add(turn)
        assert await log.head() >= done.last

    with sqlite3.connect(data_dir / "events.db", isolation_level=None) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        appends = [asyncio.create_task(appended(number)) for number in range(4 * ACKNOWLEDGED_AT_ONCE)]
        await asyncio.sleep(0.1)  # all wait
        blocker.execute("ROLLBACK")
    blocker.close()
    tick()
    await asyncio.gather(*appends)
    await log.close()
    return len(told)


async def test_a_large_commit_leaves_turns_to_others(tmp_path: Path) -> None:
    assert await turns_of_a_large_commit(SQLiteLog, tmp_path / "log") >= 4
    assert await turns_of_a_large_commit(AllAtOnceLog, tmp_path / "twin") < 4


async def test_a_hook_that_fails_keeps_nobody_waiting(tmp_path: Path) -> None:
    log = await SQLiteLog.open(tmp_path)
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))

    def fails(head: int) -> None:
        raise RuntimeError(head)

    log.on_commit = fails
    async with asyncio.timeout(5):
        appended = await log.append(write("request-1", NEW_STREAM))
    assert appended.last == await log.head() == 1
    assert [type(failure) for failure in failures] == [RuntimeError]
    await log.close()


async def test_a_full_queue_refuses_new_work_and_nothing_else(tmp_path: Path) -> None:
    log = await SQLiteLog.open(tmp_path)
    with sqlite3.connect(tmp_path / "events.db", isolation_level=None) as blocker:
        blocker.execute("BEGIN IMMEDIATE")  # as a slow disk would: nothing commits
        admitted = [log.append(write(f"request-{n}", NEW_STREAM), admit=True) for n in range(QUEUED_APPENDS)]
        with pytest.raises(LogBusy):
            log.append(write("request-more", NEW_STREAM), admit=True)
        running = log.append(write("request-0", 1))
        blocker.execute("ROLLBACK")
    blocker.close()
    assert (await running).last == QUEUED_APPENDS + 1
    await asyncio.gather(*admitted)
    assert (await log.append(write("request-more", NEW_STREAM), admit=True)).last == QUEUED_APPENDS + 2
    await log.close()


async def test_large_appends_fill_the_queue_too(tmp_path: Path) -> None:
    log = await SQLiteLog.open(tmp_path)
    with sqlite3.connect(tmp_path / "events.db", isolation_level=None) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        large = [log.append(write(f"request-{n}", NEW_STREAM), blobs=[bytes(16 << 20)]) for n in range(2)]
        with pytest.raises(LogBusy):
            log.append(write("request-more", NEW_STREAM), admit=True)
        blocker.execute("ROLLBACK")
    blocker.close()
    await asyncio.gather(*large)
    await log.close()


class Forgiving(Writer):
    """The bug: after a failure SQLite carries on as soon as there is room, and so does this."""

    def _handle(self, waiting: list[Waiting]) -> None:
        super()._handle(waiting)
        if self._failure is not None:
            self._connection.rollback()
            self._failure = None


class ForgivingLog(SQLiteLog):
    writer = Forgiving


async def fill_the_disk(data_dir: Path, kind: type[SQLiteLog]) -> None:
    """The child: its files may not grow for a while. Says what became of an append before, during and after."""
    fatal: list[Exception] = []
    log = await kind.open(data_dir, on_fatal=fatal.append)
    large = happened(text="x" * 100_000)

    async def outcome(stream: str) -> str:
        try:
            return type(await log.append(write(stream, NEW_STREAM, large))).__name__
        except LogUnavailable as refused:
            return type(refused).__name__

    said = [await outcome("before")]
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    said += [await outcome("during")]
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    said += [await outcome("after")]
    print(*said, len(fatal))
    await log.close()


async def said_on_a_full_disk(data_dir: Path, kind: type[SQLiteLog]) -> str:
    command = [sys.executable, "-m", __name__, data_dir, kind.__name__]
    child = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
    return child.stdout.strip()


async def test_a_disk_that_refuses_once_is_not_trusted_again(tmp_path: Path) -> None:
    assert await said_on_a_full_disk(tmp_path, SQLiteLog) == "Appended LogUnavailable LogUnavailable 1"
    log = await SQLiteLog.open(tmp_path)
    assert [len(await log.read_stream(stream)) for stream in ("before", "during", "after")] == [1, 0, 0]
    await log.close()


async def test_trusting_it_again_is_noticed(tmp_path: Path) -> None:
    assert await said_on_a_full_disk(tmp_path, ForgivingLog) == "Appended LogUnavailable Appended 1"


async def test_an_append_that_cannot_be_written_fails_alone(tmp_path: Path) -> None:
    fatal: list[Exception] = []
    log = await SQLiteLog.open(tmp_path, on_fatal=fatal.append)
    with pytest.raises(TypeError):
        log.append(write("session-\ud800", NEW_STREAM))
    assert (await log.append(write("a", NEW_STREAM))).last == 1
    assert fatal == []
    await log.close()


DAMAGES = {
    "data": "UPDATE ledger SET data = CAST(replace(CAST(data AS TEXT), '\"n\":5', '\"n\":6') AS BLOB)",
    "version": "UPDATE ledger SET version = 99 WHERE position = 10",
    "stream": "UPDATE streams SET name = 'b'",
    "at": "UPDATE ledger SET at = at + 1 WHERE position = 10",
    "digest": "UPDATE ledger SET digest = zeroblob(32) WHERE position = 4",
    "missing": "DELETE FROM ledger WHERE position = 7",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
async def test_damage_near_the_end_is_found_at_the_next_start(tmp_path: Path, damage: str) -> None:
    log = await SQLiteLog.open(tmp_path)
    await log.append(write("a", NEW_STREAM, *(happened(n=n) for n in range(10))))
    await log.close()
    with sqlite3.connect(tmp_path / "events.db", isolation_level=None) as shell:
        triggers = shell.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for (name,) in triggers:
            shell.execute(f"DROP TRIGGER {name}")
        assert shell.execute(damage).rowcount > 0
        assert shell.execute("PRAGMA integrity_check").fetchone() == ("ok",)  # SQLite's own check is not enough
    shell.close()
    with pytest.raises(LogCorrupt):
        await SQLiteLog.open(tmp_path)


async def test_a_flipped_bit_in_the_file_is_found_at_the_next_start(tmp_path: Path) -> None:
    log = await SQLiteLog.open(tmp_path)
    await log.append(write("a", NEW_STREAM, happened(text="in the beginning")))
    await log.close()
    content = bytearray((tmp_path / "events.db").read_bytes())
    content[content.index(b"in the beginning")] ^= 1
    (tmp_path / "events.db").write_bytes(content)
    with pytest.raises(LogCorrupt, match="digest"):
        await SQLiteLog.open(tmp_path)


async def test_readers_say_in_the_log_s_words_that_the_file_is_damaged(tmp_path: Path) -> None:
    log = await SQLiteLog.open(tmp_path)
    await log.append(*(write(f"request-{n}", NEW_STREAM, happened(text="x" * 1_000)) for n in range(50)))
    await log.close()
    content = bytearray((tmp_path / "events.db").read_bytes())
    for page in range(0, len(content), 4096):
        if content[page + 4096 - 100 : page + 4096].count(b"x") > 50:
            content[page : page + 8] = bytes(8)  # the head of a page of rows
    (tmp_path / "events.db").write_bytes(content)
    with Reader(tmp_path) as reader, pytest.raises(LogCorrupt):
        reader.read(0, 100)
    with pytest.raises(LogCorrupt):
        await SQLiteLog.open(tmp_path)


async def test_a_file_that_is_no_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "events.db").write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(LogCorrupt):
        await SQLiteLog.open(tmp_path)
    (tmp_path / "events.db").unlink()
    with sqlite3.connect(tmp_path / "events.db") as other:
        other.execute("PRAGMA user_version = 7")
    other.close()
    with pytest.raises(LogUnavailable, match="schema version"):
        await SQLiteLog.open(tmp_path)


async def test_a_reader_sees_what_is_committed_while_the_log_is_written_and_after(tmp_path: Path) -> None:
    with pytest.raises(LogUnavailable):
        Reader(tmp_path)
    log = await SQLiteLog.open(tmp_path)
    with Reader(tmp_path) as reader:
        await record_run(log, "request-1", b"x", b"y")
        assert reader.head() == 4
        assert reader.read(0, 10) == await log.read(0, 10)
        assert reader.read_stream("request-1") == await log.read_stream("request-1")
        assert reader.read_frames(1, 4) == await log.read_frames(1, 4)
        assert [row.position for row in reader.rows(1, frames=False)] == [4]
        assert reader.streams("request-") == ["request-1"]
        with pytest.raises(sqlite3.OperationalError):
            reader._connection.execute("INSERT INTO types (name) VALUES ('x')")
    await log.close()
    with Reader(tmp_path / "events.db") as reader:
        assert [row.position for row in reader.read(0, 10)] == [1, 2, 3, 4]
        assert reader.sealed() == 0


async def test_reads_over_a_page_are_whole(tmp_path: Path) -> None:
    log = await SQLiteLog.open(tmp_path)
    await log.append(write("a", NEW_STREAM, *(happened(n=n) for n in range(2_500))))
    assert [row.position for row in await log.read(0, 2_400)] == list(range(1, 2_401))
    assert [event.version for event in await log.read_stream("a")] == list(range(1, 2_501))
    with Reader(tmp_path) as reader:
        assert len(reader.read_stream("a")) == len(list(reader.rows())) == 2_500
    await log.close()


async def test_a_token_a_row_costs_at_most_forty_bytes_of_file(tmp_path: Path) -> None:
    log = await SQLiteLog.open(tmp_path)
    await log.append(write("a", NEW_STREAM))
    await log.close()
    before = (tmp_path / "events.db").stat().st_size
    log = await SQLiteLog.open(tmp_path)
    runs = [FrameRun(1) for _ in range(100)]
    template = Template(b'data: {"choices":[{"delta":{"content":"', b'"}}]}')
    for token in range(100):
        opens = (0, template) if token == 0 else None
        rows = [run.pack([template.prefix + b" token" + template.suffix], token * 20_000, opens)[0] for run in runs]
        await log.append(frames=[row for packed in rows for row in packed])
    await log.close()
    assert ((tmp_path / "events.db").stat().st_size - before) / 10_000 <= 40


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
    ],
)
def test_a_library_with_the_reset_bug_is_named(version: tuple[int, int, int], affected: bool) -> None:
    assert bool(sqlite_warnings(version)) == affected


if __name__ == "__main__":
    asyncio.run(fill_the_disk(Path(sys.argv[1]), {"SQLiteLog": SQLiteLog, "ForgivingLog": ForgivingLog}[sys.argv[2]]))
