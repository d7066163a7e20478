"""repair beside a server: what it says of itself decides, and nothing is touched that it could not record."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from eventstore.lock import DirectoryLock
from eventstore.sqlite import SQLiteLog
from gateway.archivist import Archivist
from gateway.control import ControlError, ControlServer
from tests.replay.conftest import Run
from tests.replay.recorded_log import Recorder


@pytest.fixture
async def data_dir(tmp_path: Path) -> Path:
    """A log whose archive is damaged."""
    async with Recorder(tmp_path / "logs") as recorder:
        await recorder.exchange("Hello", " you")
        await Archivist(recorder.log, recorder.data_dir).asked("archive", 1_000)
    (path,) = (recorder.data_dir / "archive").iterdir()
    path.write_bytes(b"nothing of it")
    return recorder.data_dir


async def beside(data_dir: Path, replay: Run, said: Mapping[str, Any], *arguments: str) -> Any:
    """What `repair` does where a server says this of its NATS."""

    async def handle(request: Mapping[str, Any]) -> Mapping[str, Any]:
        if request["command"] != "nats":
            raise ControlError("the disk is full")
        return said

    control = ControlServer(data_dir, handle)
    with DirectoryLock(data_dir):
        await control.start()
        try:
            return await asyncio.to_thread(replay, "repair", *arguments)
        finally:
            await control.stop()


@pytest.mark.parametrize("said", [{"state": "off"}, {"state": "external", "url": "nats://elsewhere:4222"}])
def test_a_nats_that_it_cannot_enter_has_to_be_named(replay: Run, data_dir: Path, said: Mapping[str, Any]) -> None:
    done = asyncio.run(beside(data_dir, replay, said))
    assert (done.returncode, b"name one with --nats" in done.stderr) == (1, True)


def test_a_nats_that_does_not_answer_is_told_and_nothing_changed(replay: Run, data_dir: Path) -> None:
    before = {path.name for path in (data_dir / "archive").iterdir()}
    done = asyncio.run(beside(data_dir, replay, {"state": "off"}, "--nats", "nats://127.0.0.1:1"))
    assert (done.returncode, b"NATS cannot be asked" in done.stderr) == (1, True)
    assert {path.name for path in (data_dir / "archive").iterdir()} - {"server.lock"} == before


def test_an_owner_that_does_not_listen_is_named(replay: Run, data_dir: Path) -> None:
    with DirectoryLock(data_dir):
        done = replay("repair")
    assert (done.returncode, b"does not listen" in done.stderr) == (1, True)


@pytest.mark.parametrize("request_", [{}, {"events": [0], "frames": []}, {"events": [1], "frames": ["2"]}])
async def test_only_positions_are_recorded(tmp_path: Path, request_: dict[str, Any]) -> None:
    log = await SQLiteLog.open(tmp_path)
    with pytest.raises(ControlError, match="not positions"):
        await Archivist(log, tmp_path).repaired(request_)
    assert await log.head() == 0
    await log.close()
