"""Killed at any moment, the log has everything that it acknowledged."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from eventstore.batch import Waiting
from eventstore.envelope import NEW_STREAM, RecordedEvent
from eventstore.reader import Reader
from eventstore.sqlite import SQLiteLog
from eventstore.verify import verify
from eventstore.writer import Writer
from tests.eventstore.builders import record_run, run_of, write


class AcknowledgesFirst(Writer):
    """The bug: done is said before it is so."""

    def _handle(self, waiting: list[Waiting]) -> None:
        batch = self._stage(waiting, trusting=True)
        self._loop.call_soon_threadsafe(self._committed, waiting, batch.position)
        self._commit(waiting)


class EarlyLog(SQLiteLog):
    writer = AcknowledgesFirst


async def die_of_an_error(data_dir: Path) -> None:
    """A child that never closes its log."""
    log = await SQLiteLog.open(data_dir)
    await log.append(write("request-1", NEW_STREAM))
    raise RuntimeError("an error of whoever has the log open")


def test_a_process_that_dies_of_an_error_does_not_stay(tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-m", __name__, str(tmp_path), "error"], capture_output=True, timeout=20, check=False
    )
    assert child.returncode == 1
    assert b"an error of whoever" in child.stderr
    with Reader(tmp_path) as reader:
        assert reader.head() == 1


async def write_until_killed(data_dir: Path, kind: type[SQLiteLog]) -> None:
    """The child: once told to go, names each stream whose append was acknowledged."""
    log = await kind.open(data_dir)
    os.write(1, b"open\n")
    os.read(0, 3)

    async def produce(producer: int) -> None:
        for n in range(1_000_000):
            name = f"request-{producer}-{n}"
            await log.append(write(name, NEW_STREAM))
            os.write(1, f"{name}\n".encode())
            await record_run(log, f"run-{producer}-{n}", b"x", b"y")

    await asyncio.gather(*(produce(producer) for producer in range(8)))


def acknowledged_until_killed(data_dir: Path, kind: type[SQLiteLog], lines: int, *, stuck: bool = False) -> set[str]:
    """Kill -9 the child after so many acknowledgements; all that it had said. `stuck`: no commit of it can succeed."""
    command = [sys.executable, "-m", __name__, data_dir, kind.__name__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        with closing(sqlite3.connect(data_dir / "events.db", isolation_level=None)) as blocker:
            if stuck:
                blocker.execute("BEGIN IMMEDIATE")
            child.stdin.write(b"go\n")
            said = b"".join(child.stdout.readline() for _ in range(lines))
            child.send_signal(signal.SIGKILL)
            said += child.stdout.read()
    return set(said.decode().rpartition("\n")[0].split("\n"))


@pytest.mark.parametrize("lines", [1, 20, 300])
async def test_what_was_acknowledged_is_there(tmp_path: Path, lines: int) -> None:
    said = await asyncio.to_thread(acknowledged_until_killed, tmp_path, SQLiteLog, lines)
    with Reader(tmp_path) as reader:  # no writer has opened the file since
        rows = reader.read(0, 1 << 30)
    assert said <= {row.stream for row in rows if isinstance(row, RecordedEvent)}
    assert list(verify(rows, run_of)) == []
    log = await SQLiteLog.open(tmp_path)
    assert await log.read(0, 1 << 30) == rows
    await log.append(write("request-after", NEW_STREAM))
    await log.close()


async def test_acknowledging_before_the_commit_is_noticed(tmp_path: Path) -> None:
    said = await asyncio.to_thread(acknowledged_until_killed, tmp_path, EarlyLog, 8, stuck=True)
    with Reader(tmp_path) as reader:
        assert not said <= set(reader.streams("request-"))


if __name__ == "__main__":
    if sys.argv[2] == "error":
        asyncio.run(die_of_an_error(Path(sys.argv[1])))
    asyncio.run(write_until_killed(Path(sys.argv[1]), {"SQLiteLog": SQLiteLog, "EarlyLog": EarlyLog}[sys.argv[2]]))
