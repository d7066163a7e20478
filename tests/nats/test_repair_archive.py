"""A log whose older part is archived is made again from JetStream too, file by file, to the byte."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import nats
import pytest

from eventstore import rows
from eventstore.archiving import Archiving
from eventstore.envelope import Recorded, RecordedEvent
from eventstore.reader import Reader
from eventstore.sqlite import SQLiteLog
from gateway.archivist import Archivist
from projections.engine import Engine
from replay import cli
from replay.recorded import ReplayError
from replay.repair import repaired
from replay.verify import verified
from tests.nats.load import gateway, streamed
from tests.nats.repairer import STEPS
from tests.nats.test_ingest_repair import flipped, recorded, rows_of
from tests.natsd import Natsd
from tests.replay.conftest import ROOT
from tests.serverprocess import server_process

REPAIRED = "log_repaired"


class Small(Archiving):
    """Segments of few rows."""

    segment_rows = 60


class SmallArchivist(Archivist):
    archiving = Small


async def archived(data_dir: Path, server: Natsd, drop: int = 0) -> tuple[list[Recorded], dict[Path, bytes]]:
    """Exchanges of which most are archived: the live rows that JetStream has, and the archive's files."""
    head = (await recorded(data_dir, server))[-1].position
    with Reader(data_dir) as reader:
        engine = Engine(data_dir, reader)
        while engine.step():
            pass
        engine.close()
    log = await SQLiteLog.open(data_dir)
    archivist = SmallArchivist(log, data_dir, log.previous)
    await archivist.asked("archive", head - 40)
    assert len((await archivist.asked("drop", drop))["dropped"]) == bool(drop)
    await log.close()
    segments = {path: path.read_bytes() for path in (data_dir / "archive").glob("*.segment")}
    assert len(segments) > 1
    return [row for row in rows_of(data_dir) if head - 35 < row.position <= head], segments


async def test_a_nats_without_the_log_is_named_as_what_it_is(data_dir: Path, server: Natsd) -> None:
    """As the bundled one of a server that ran without."""
    await (await SQLiteLog.open(data_dir)).close()
    with pytest.raises(ReplayError, match="has no copy of the log"):
        await repaired(data_dir, server.url)


@pytest.mark.parametrize("drop", [0, 70])
async def test_files_and_live_rows_are_made_good(data_dir: Path, server: Natsd, drop: int) -> None:
    lively, segments = await archived(data_dir, server, drop)
    before = rows_of(data_dir)
    random = Random(1)
    for path, content in segments.items():
        at = random.randrange(len(content))
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    file = data_dir / rows.FILE
    file.write_bytes(flipped(flipped(file.read_bytes(), lively, random), lively, random))
    report = await repaired(data_dir, server.url)
    assert report["lost"] == []
    assert sorted(report["files"]) == sorted(path.name for path in segments)
    assert {path: path.read_bytes() for path in segments} == segments
    assert rows_of(data_dir)[:-1] == before
    with Reader(data_dir) as reader:
        assert verified(reader)["listed"] == []
        (said,) = reader.read(reader.head() - 1, 1)
        assert isinstance(said, RecordedEvent)
        assert said.type == REPAIRED
    assert not (data_dir / "repair.partial").exists()
    async with gateway(data_dir, server.url) as served:
        await served.says("healthy")


async def test_killed_at_any_step_it_is_gone_on_with(data_dir: Path, server: Natsd, tmp_path: Path) -> None:
    lively, segments = await archived(data_dir, server)
    before, random = rows_of(data_dir), Random(3)
    for path in segments:
        path.write_bytes(b"nothing of it")
    file = data_dir / rows.FILE
    file.write_bytes(flipped(file.read_bytes(), lively, random))
    for step in STEPS:
        again = tmp_path / step
        shutil.copytree(data_dir, again)
        command = [sys.executable, "-m", "tests.nats.repairer", str(again), server.url, step]
        child = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
        assert await child.wait() == -9
        made = [path for path, whole in segments.items() if (again / "archive" / path.name).read_bytes() == whole]
        assert len(made) == {"kept": 0, "between": 1, "last": len(segments)}[step]
        assert (await repaired(again, server.url))["lost"] == []
        assert rows_of(again)[:-1] == before
        with Reader(again) as reader:
            assert verified(reader)["listed"] == []


async def test_what_nobody_has_changes_nothing(data_dir: Path, server: Natsd) -> None:
    _, segments = await archived(data_dir, server)
    client = await nats.connect(server.url)
    await client.jetstream().purge_stream("TOKENS")
    await client.close()
    path = min(segments)
    path.unlink()
    content = (data_dir / rows.FILE).read_bytes()
    report = await repaired(data_dir, server.url)
    assert report["lost"]
    assert not path.exists()
    assert (data_dir / rows.FILE).read_bytes() == content


async def events(session: aiohttp.ClientSession, url: str) -> Any:
    async with session.get(url) as answer:
        return (await answer.json())["data"]


async def test_beside_a_running_server_archived_files_are_made_good(tmp_path: Path) -> None:
    data_dir = tmp_path / "logs"
    async with server_process(data_dir, env={}, args=()) as server, aiohttp.ClientSession() as session:
        answers = [await streamed(server.url, "demo/echo", f"one two {n}") for n in range(4)]
        assert await asyncio.to_thread(replayed, data_dir, "archive", "--before", "1000000") == 0
        url = f"{server.url}/v1/requests/{answers[0].request_id}/events"
        before = await events(session, url)
        (path,) = (data_dir / "archive").glob("*.segment")
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        async with asyncio.timeout(60):
            while await asyncio.to_thread(replayed, data_dir, "repair"):  # until JetStream has all of it
                assert path.read_bytes() != content
        assert path.read_bytes() == content
        assert await events(session, url) == before
        assert before
        assert await server.terminate() == 0
    with Reader(data_dir) as reader:
        (said,) = [row for row in reader.rows(frames=False) if isinstance(row, RecordedEvent) and row.type == REPAIRED]
        assert len(said.body["events"] + said.body["frames"]) == reader.sealed()
        assert verified(reader)["listed"] == []


def replayed(data_dir: Path, *arguments: str) -> int:
    return cli.run([*arguments, "--data-dir", str(data_dir)], {})
