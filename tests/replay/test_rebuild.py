"""rebuild: without a server under the directory's lock, with one through its socket."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from eventstore.lock import DirectoryLock
from gateway.control import ControlError, ControlServer
from projections.registry import REGISTRY
from tests.durability.flipped import flipped
from tests.replay.conftest import Run
from tests.replay.recorded_log import Recorder

NAMES = [projection.name for projection in REGISTRY]


@pytest.fixture
async def data_dir(tmp_path: Path) -> Path:
    async with Recorder(tmp_path / "logs") as recorder:
        await recorder.exchange("Hello", " you")
        await recorder.exchange("Goodbye")
    return recorder.data_dir


def tables(data_dir: Path) -> dict[str, list[Any]]:
    with sqlite3.connect(data_dir / "projections.db") as rows:
        names = [name for (name,) in rows.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return {name: sorted(map(repr, rows.execute(f"SELECT * FROM {name}"))) for name in names}


def test_everything_is_folded_to_the_head_and_twice_is_the_same(replay: Run, data_dir: Path) -> None:
    first = orjson.loads(replay("rebuild", "--json").stdout)
    rows = tables(data_dir)
    assert sorted(first["projections"]) == sorted(NAMES)
    assert len({state["position"] for state in first["projections"].values()}) == 1
    assert replay("rebuild").returncode == 0
    assert tables(data_dir) == rows


def test_rows_that_were_spoilt_are_whole_again(replay: Run, data_dir: Path) -> None:
    replay("rebuild")
    rows = tables(data_dir)
    spoilt = next(name for name in rows if name.startswith("requests") and rows[name])
    with sqlite3.connect(data_dir / "projections.db") as connection:
        connection.execute(f"DELETE FROM {spoilt}")
    assert tables(data_dir) != rows
    assert replay("rebuild", "--projection", "requests").returncode == 0
    assert tables(data_dir) == rows


def test_no_report_is_made_of_damage(replay: Run, data_dir: Path) -> None:
    replay("rebuild")
    rows = tables(data_dir)
    assert flipped(data_dir, "ledger", "data", b"Goodbye", b"Goodbuy")
    found = replay("rebuild", "--json")
    states = orjson.loads(found.stdout)["projections"]
    assert found.returncode == 1
    assert len({state["position"] for state in states.values()}) == 1
    for state in states.values():
        assert state["halted"]["position"] == state["position"] + 1
        assert "the log is damaged" in state["halted"]["error"]
    assert "Goodbuy" not in str(tables(data_dir))
    assert b", halted by " in replay("rebuild").stdout
    assert flipped(data_dir, "ledger", "data", b"Goodbuy", b"Goodbye")
    assert replay("rebuild").returncode == 0
    assert tables(data_dir) == rows


def test_a_running_server_is_asked_and_nobody_else_writes(replay: Run, data_dir: Path) -> None:
    asked: list[Mapping[str, Any]] = []

    async def handle(request: Mapping[str, Any]) -> Mapping[str, Any]:
        asked.append(request)
        return {"position": 9, "halted": None}

    with DirectoryLock(data_dir):
        done = asyncio.run(beside(ControlServer(data_dir, handle), replay))
    assert done.returncode == 0
    assert asked == [{"command": "rebuild", "projection": "usage"}]
    assert not (data_dir / "projections.db").exists()


def test_the_servers_refusal_is_told(replay: Run, data_dir: Path) -> None:
    async def refuse(_: Mapping[str, Any]) -> Mapping[str, Any]:
        raise ControlError("the follower is not running")

    with DirectoryLock(data_dir):
        done = asyncio.run(beside(ControlServer(data_dir, refuse), replay))
    assert done.returncode == 1
    assert b"the follower is not running" in done.stderr


def test_an_owner_that_does_not_listen_is_named(replay: Run, data_dir: Path) -> None:
    with DirectoryLock(data_dir):
        done = replay("rebuild")
    assert done.returncode == 1
    assert b"does not listen" in done.stderr
    assert not (data_dir / "projections.db").exists()


async def beside(server: ControlServer, replay: Run) -> Any:
    await server.start()
    done = await asyncio.to_thread(replay, "rebuild", "--projection", "usage")
    await server.stop()
    return done
