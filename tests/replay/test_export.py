"""export: the ledger as JSON lines, as it was recorded."""

from __future__ import annotations

from pathlib import Path

import orjson

from eventstore.reader import Reader
from tests.replay.conftest import Run
from tests.replay.recorded_log import Recorder


async def test_export_prints_every_event_as_recorded(replay: Run, tmp_path: Path) -> None:
    async with Recorder(tmp_path / "logs") as recorder:
        await recorder.exchange("Hello")
    with Reader(tmp_path / "logs") as reader:
        events = list(reader.rows(frames=False))
    assert replay("export").stdout.splitlines() == [event.data for event in events]  # type: ignore[union-attr]  # ledger
    some = replay("export", "--after", str(events[0].position), "--until", str(events[2].position)).stdout
    assert len(some.splitlines()) == 2


async def test_export_of_one_request_is_its_stream(replay: Run, tmp_path: Path) -> None:
    async with Recorder(tmp_path / "logs") as recorder:
        await recorder.exchange("Hello")
        wanted = await recorder.exchange("you")
    lines = replay("export", wanted).stdout.splitlines()
    assert {orjson.loads(line)["stream"] for line in lines} == {f"request-{wanted}"}


async def test_export_of_an_unknown_request_says_so(replay: Run, tmp_path: Path) -> None:
    async with Recorder(tmp_path / "logs"):
        pass
    done = replay("export", "nothing")
    assert done.returncode == 1
    assert b"has no request" in done.stderr
