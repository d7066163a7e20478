"""drop: what projections made of history outlives it, whenever dropping it is killed, and no drop goes without that."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from eventstore.errors import LogCorrupt
from eventstore.reader import Reader
from eventstore.sqlite import SQLiteLog
from gateway.archivist import Archivist
from projections import db, snapshotting
from projections.engine import Engine
from projections.metrics import Metrics
from projections.projection import Rows
from projections.usage import UsageProjection
from tests.crash.load import openai_body
from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.whole import COMPATIBLE, chat, gateway
from tests.replay import dropper
from tests.replay.conftest import ROOT, Run
from tests.replay.recorded_log import Recorder
from tests.replay.test_rebuild import tables

ALL = "1000000000"


@pytest.fixture
async def recorder(tmp_path: Path) -> Recorder:
    """Ten exchanges, of which the last is open."""
    async with Recorder(tmp_path / "logs") as recorder:
        for number in range(9):
            await recorder.exchange("Hello", f" {number}")
        await recorder.asked()
    return recorder


def folded(data_dir: Path) -> dict[str, list[Any]]:
    """What tables hold, without how far they have come."""
    return {name: rows for name, rows in tables(data_dir).items() if not name.startswith("projection_")}


def archived(replay: Run, data_dir: Path) -> dict[str, list[Any]]:
    """Archive in three segments, fold, and say what was made of the whole log."""
    for before in ("20", "40", ALL):
        replay("archive", "--before", before)
    replay("rebuild")
    with Reader(data_dir) as reader:
        assert len(reader.segments()) == 3
    return folded(data_dir)


def snapshots(data_dir: Path) -> list[str]:
    return sorted(path.name for path in (data_dir / "archive").glob("*.snapshot*"))


def damages(replay: Run) -> list[str]:
    return [found["what"] for found in orjson.loads(replay("verify", "--json").stdout)["listed"]]


def test_a_rebuild_gives_the_totals_of_what_was_dropped(replay: Run, recorder: Recorder) -> None:
    before = archived(replay, recorder.data_dir)
    for position in ("20", "40", ALL):  # each snapshot begins with the one before
        assert len(orjson.loads(replay("archive", "--drop-before", position, "--json").stdout)["dropped"]) == 1
        assert len(snapshots(recorder.data_dir)) == 1
        (recorder.data_dir / db.NAME).unlink()
        assert replay("rebuild").returncode == 0
        assert folded(recorder.data_dir) == before
    assert damages(replay) == []
    with Reader(recorder.data_dir) as reader:
        assert reader.dropped() == reader.sealed()


def test_what_comes_after_the_drop_is_added(replay: Run, recorder: Recorder, tmp_path: Path) -> None:
    archived(replay, recorder.data_dir)
    replay("archive", "--drop-before", ALL)
    asyncio.run(gone_on(recorder))
    shutil.copytree(recorder.data_dir, tmp_path / "rebuilt")
    follow(recorder.data_dir)
    replay("rebuild", data_dir=tmp_path / "rebuilt")
    assert folded(tmp_path / "rebuilt") == folded(recorder.data_dir)


def test_what_was_given_again_out_of_dropped_history_is_no_damage(replay: Run, tmp_path: Path) -> None:
    assert asyncio.run(asked(tmp_path / "logs")) == "miss"
    replay("archive", "--before", ALL)
    assert asyncio.run(asked(tmp_path / "logs")) == "hit"
    assert orjson.loads(replay("verify", "--json").stdout)["rendered"] == 2
    assert len(orjson.loads(replay("archive", "--drop-before", ALL, "--json").stdout)["dropped"]) == 1
    found = replay("verify", "--json")
    report = orjson.loads(found.stdout)
    assert (found.returncode, report["listed"]) == (0, [])
    assert (report["requests"], report["rendered"], report["sources_dropped"]) == (1, 0, 1)
    assert b"all well" in replay("verify").stdout


async def asked(logs: Path) -> str:
    """A server that caches is asked, and ends; what it said of its cache."""
    async with ScriptedServer() as upstream, gateway(logs, upstream.base_url, "--cache") as running:
        upstream.script(COMPATIBLE, Script.json(openai_body()))
        return (await running.ask(chat())).headers["x-abstractcore-cache"]


async def gone_on(recorder: Recorder) -> None:
    """The open request is answered."""
    recorder.log = await SQLiteLog.open(recorder.data_dir)
    await recorder.answered(recorder.ids[-1], ("and", " on"), {})
    await recorder.log.close()


def follow(data_dir: Path) -> None:
    with Reader(data_dir) as reader:
        engine = Engine(data_dir, reader)
        while engine.step():
            pass
        engine.close()


def test_killed_at_any_step_no_total_is_lost(replay: Run, recorder: Recorder, tmp_path: Path) -> None:
    before = archived(replay, recorder.data_dir)
    replay("archive", "--drop-before", "20")
    for step in dropper.STEPS:
        data_dir = tmp_path / step
        shutil.copytree(recorder.data_dir, data_dir)
        command = [sys.executable, "-m", "tests.replay.dropper", str(data_dir), step]
        assert subprocess.run(command, check=False, cwd=ROOT).returncode == -9
        assert orjson.loads(replay("verify", "--json", data_dir=data_dir).stdout)["listed"] == [], step
        (data_dir / db.NAME).unlink()
        replay("rebuild", data_dir=data_dir)
        assert folded(data_dir) == before, step
        replay("archive", "--drop-before", ALL, data_dir=data_dir)
        assert len(snapshots(data_dir)) == 1, step
        with Reader(data_dir) as reader:
            assert reader.dropped() == reader.sealed(), step
        replay("rebuild", data_dir=data_dir)
        assert folded(data_dir) == before, step


class Careless(Archivist):
    """The bug: history goes, and nothing is kept of it."""

    async def _keep(self, through: int) -> None:
        pass


async def test_twin_that_keeps_no_snapshot_loses_totals(tmp_path: Path, recorder: Recorder) -> None:
    data_dir = recorder.data_dir
    follow(data_dir)
    before = folded(data_dir)
    log = await SQLiteLog.open(data_dir)
    archivist = Careless(log, data_dir)
    await archivist.asked("archive", dropper.ALL)
    await log.close()
    log = await SQLiteLog.open(data_dir)
    follow(data_dir)
    assert (await Careless(log, data_dir).asked("drop", dropper.ALL))["dropped"]
    await log.close()
    (data_dir / db.NAME).unlink()
    follow(data_dir)
    assert folded(data_dir) != before


@pytest.mark.parametrize("spoil", ["flip", "delete"])
def test_a_damaged_snapshot_is_found_and_nothing_is_made_of_it(replay: Run, recorder: Recorder, spoil: str) -> None:
    before = archived(replay, recorder.data_dir)
    replay("archive", "--drop-before", "40")
    (path,) = (recorder.data_dir / "archive").glob("*.snapshot")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    if spoil == "delete":
        path.unlink()
    (found,) = damages(replay)
    assert path.name in found
    refused = replay("rebuild")
    assert (refused.returncode, b"snapshot" in refused.stderr) == (1, True)
    assert folded(recorder.data_dir) == before
    refused = replay("archive", "--drop-before", ALL)
    assert (refused.returncode, b"snapshot" in refused.stderr) == (1, True)
    with Reader(recorder.data_dir) as reader:
        assert len(reader.segments()) == 1


def test_twin_that_believes_its_snapshot_gives_other_totals(
    replay: Run, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = archived(replay, recorder.data_dir)
    replay("archive", "--drop-before", ALL)
    (path,) = (recorder.data_dir / "archive").glob("*.snapshot")
    with closing(sqlite3.connect(path, isolation_level=None)) as kept:
        kept.execute("UPDATE usage_attempts SET tokens_output = tokens_output + 1")
        kept.execute("UPDATE usage_hours SET tokens_output = tokens_output + 1")
    (recorder.data_dir / db.NAME).unlink()
    with pytest.raises(LogCorrupt, match="not the snapshot that was taken"):
        follow(recorder.data_dir)
    monkeypatch.setattr("projections.snapshots.damage", lambda path, digest: None)
    follow(recorder.data_dir)
    assert folded(recorder.data_dir) != before


class Poisoned(UsageProjection):
    """Cannot fold the end of an attempt."""

    def apply(self, events: Any, rows: Rows) -> None:
        raise ValueError("cannot fold this")


def test_nothing_is_dropped_that_a_projection_cannot_fold(replay: Run, recorder: Recorder) -> None:
    archived(replay, recorder.data_dir)
    with Reader(recorder.data_dir) as reader, pytest.raises(snapshotting.NotTaken, match="usage cannot fold position"):
        snapshotting.take(recorder.data_dir, reader, 30, [Metrics(), Poisoned()])
    assert not list((recorder.data_dir / "archive").glob("*.snapshot"))


class Later(UsageProjection):
    """A later release's."""

    version = 2


def test_what_another_version_made_is_no_beginning_behind_what_was_dropped(
    replay: Run, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    archived(replay, recorder.data_dir)
    replay("archive", "--drop-before", "40")
    with Reader(recorder.data_dir) as reader:
        engine = Engine(recorder.data_dir, reader, [Later()])
        assert engine.positions() == {"usage": 0}
        engine.close()
    assert "does not hold its version 2" in caplog.text


def files(data_dir: Path) -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in data_dir.glob("verbatim_*")}


def test_files_begin_behind_what_was_dropped_and_lose_nothing(replay: Run, recorder: Recorder) -> None:
    archived(replay, recorder.data_dir)
    ((name, content),) = files(recorder.data_dir).items()
    replay("archive", "--drop-before", "40")
    assert files(recorder.data_dir) == {name: content}
    replay("rebuild", "--projection", "verbatim")
    found = dict(files(recorder.data_dir))
    assert found.pop(f"{name}.before1") == content
    (rest,) = found.values()
    first, whole = rest.split(b"\n", 1)  # of a request whose beginning was dropped
    assert b'"prompt"' not in first
    assert b'"prompt"' in whole
    assert content.endswith(whole)
    before = files(recorder.data_dir)
    replay("rebuild", "--projection", "verbatim")  # of what is left all can be made again
    assert files(recorder.data_dir) == before
    replay("archive", "--drop-before", ALL)
    replay("rebuild", "--projection", "verbatim")
    assert [".before" in name for name in files(recorder.data_dir)] == [True, True]
