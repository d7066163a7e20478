"""Logs that cannot be read as usual: on a medium that takes nothing, after a crash there, and of a later release."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.replay.conftest import ROOT, Run
from tests.replay.recorded_log import Recorder

READING = ("list", "tail", "export", "verify", "show {id} --as-sent")
BOUND = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
"""Root writes where nobody may, unless it gives that up."""
pytestmark = pytest.mark.skipif(
    os.geteuid() == 0 and shutil.which(BOUND[0]) is None, reason="setpriv is not here, and root may write everywhere"
)


@pytest.fixture
async def recorder(tmp_path: Path) -> Recorder:
    async with Recorder(tmp_path / "logs") as made:
        await made.exchange("Hello")
    return made


@pytest.fixture
def writable_again(tmp_path: Path) -> Iterator[None]:
    yield
    for directory in (tmp_path / "logs", tmp_path / "crashed"):
        if directory.exists():
            directory.chmod(0o700)


def process(data_dir: Path, command: str) -> subprocess.CompletedProcess[bytes]:
    bound = BOUND if os.geteuid() == 0 else ()
    line = [*bound, sys.executable, "-m", "replay", *command.split(), "--data-dir", str(data_dir)]
    environ = {"PATH": os.environ["PATH"]}
    return subprocess.run(line, cwd=ROOT, env=environ, capture_output=True, timeout=180, check=False)


def contents(data_dir: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in data_dir.iterdir()}


@pytest.mark.usefixtures("writable_again")
def test_a_log_on_a_read_only_medium_is_read(recorder: Recorder) -> None:
    before = contents(recorder.data_dir)
    recorder.data_dir.chmod(0o500)
    for command in READING:
        done = process(recorder.data_dir, command.format(id=recorder.ids[0]))
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout
    assert contents(recorder.data_dir) == before


@pytest.mark.usefixtures("writable_again")
async def test_what_only_the_write_ahead_log_has_is_not_passed_over(recorder: Recorder, tmp_path: Path) -> None:
    async with Recorder(tmp_path / "logs") as running:
        running.ids.extend(recorder.ids)
        await running.exchange("later")
        (tmp_path / "crashed").mkdir()
        for name in ("events.db", "events.db-wal"):
            shutil.copy(tmp_path / "logs" / name, tmp_path / "crashed")
    (tmp_path / "crashed").chmod(0o500)
    done = process(tmp_path / "crashed", "list")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"copy " in done.stderr
    (tmp_path / "crashed").chmod(0o700)
    assert len(process(tmp_path / "crashed", "list").stdout.splitlines()) == 2


@pytest.mark.parametrize("command", [*READING, "rebuild", "repair", "archive --keep-days 0"])
def test_a_log_of_a_later_schema_is_refused(replay: Run, recorder: Recorder, command: str) -> None:
    with sqlite3.connect(recorder.data_dir / "events.db") as file:
        file.execute("PRAGMA user_version = 99")
    file.close()
    done = replay(*command.format(id=recorder.ids[0]).split())
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"schema version 99" in done.stderr


def test_where_there_is_no_log_it_says_so(replay: Run, tmp_path: Path) -> None:
    for command in (*READING, "rebuild", "archive --keep-days 0"):
        done = replay(*command.format(id="x").split(), data_dir=tmp_path)
        assert (done.returncode, done.stdout) == (1, b"")
        assert b"there is no log at " in done.stderr
        assert not [*tmp_path.iterdir()]
