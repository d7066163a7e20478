"""archive: every command reads what was archived as it did before, on a stopped server and on a running one."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from eventstore.archiving import Archiving
from eventstore.lock import DirectoryLock
from eventstore.reader import Reader
from eventstore.sqlite import SQLiteLog
from gateway.archivist import Archivist
from gateway.control import ControlServer
from projections.durable import durable_position
from projections.engine import Engine
from replay import archive as command
from tests.replay.conftest import Run
from tests.replay.recorded_log import Recorder
from tests.replay.test_rebuild import tables
from tests.serverprocess import server_process
from tests.spoilt import failure

ALL = "1000000000"
PATIENCE_S = 60.0


@pytest.fixture
async def recorder(tmp_path: Path) -> Recorder:
    async with Recorder(tmp_path / "logs") as recorder:
        for number in range(6):
            await recorder.exchange("Hello", f" {number}")
        await recorder.exchange("kept", retention="none")
        await recorder.asked()
    return recorder


def told(replay: Run, ids: list[str]) -> list[bytes]:
    """What all reading commands say; of `verify` what it counted."""
    shown = [replay("show", request, *how).stdout for request in ids for how in ((), ("--as-sent",), ("--json",))]
    return [*shown, replay("list", "--json").stdout.split(b',"position"')[0], replay("export", "--until", "50").stdout]


def verified(replay: Run) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(replay("verify", "--json").stdout)
    return {name: found[name] for name in ("requests", "rendered", "unretained", "open", "findings", "dropped")}


def test_every_command_reads_it_as_before(replay: Run, recorder: Recorder) -> None:
    replay("rebuild")
    before = told(replay, recorder.ids), verified(replay), tables(recorder.data_dir)["requests"]
    done = orjson.loads(replay("archive", "--before", ALL, "--json").stdout)
    assert len(done["segments"]) == 1
    with Reader(recorder.data_dir) as reader:
        assert reader.sealed() == 50
    replay("rebuild")
    assert (told(replay, recorder.ids), verified(replay), tables(recorder.data_dir)["requests"]) == before


def test_an_open_exchange_and_what_follows_it_stay(replay: Run, recorder: Recorder) -> None:
    replay("archive", "--before", ALL)
    with Reader(recorder.data_dir) as reader:
        opened = reader.read_stream(f"request-{recorder.ids[-1]}")[0]
        assert reader.sealed() == opened.position - 1
    assert replay("archive", "--before", ALL).stdout.startswith(b"nothing to archive")


def test_dates_and_days_say_how_much(replay: Run, recorder: Recorder) -> None:
    assert b"nothing to archive" in replay("archive", "--keep-days", "1").stdout
    assert b"nothing to archive" in replay("archive", "--before", "2026-01-01").stdout
    assert b".segment" in replay("archive", "--before", "2999-01-01T00:00:00Z").stdout


def test_a_position_behind_all_is_the_head_to_a_running_server_too(replay: Run, recorder: Recorder) -> None:
    asked: list[Mapping[str, Any]] = []

    async def handle(request: Mapping[str, Any]) -> Mapping[str, Any]:
        asked.append(request)
        return {"segments": []}

    async def beside() -> int:
        control = ControlServer(recorder.data_dir, handle)
        with DirectoryLock(recorder.data_dir):
            await control.start()
            try:
                return (await asyncio.to_thread(replay, "archive", "--before", str(10**30))).returncode
            finally:
                await control.stop()

    assert asyncio.run(beside()) == 0
    with Reader(recorder.data_dir) as reader:
        assert asked == [{"command": "archive", "until": reader.head()}]


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (("archive", "--before", "yesterday"), b"neither a position nor a date"),
        (("archive", "--drop-before", "zzz"), b"neither a position nor a date"),
        (("archive", "--keep-days", "-1"), b"no number of days"),
        (("archive", "--keep-days", "nan"), b"no number of days"),
        (("verify", "--jobs", "0"), b"no number of processes"),
    ],
)
def test_what_cannot_be_meant_is_a_wrong_command_line(
    replay: Run, recorder: Recorder, wrong: tuple[str, ...], what: bytes
) -> None:
    refused = replay(*wrong)
    assert (refused.returncode, what in refused.stderr) == (2, True)
    with Reader(recorder.data_dir) as reader:
        assert reader.sealed() == 0


def test_damage_in_a_file_is_found(replay: Run, recorder: Recorder) -> None:
    replay("archive", "--before", ALL)
    (path,) = (recorder.data_dir / "archive").iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    found = orjson.loads(replay("verify", "--json").stdout)
    assert path.name in found["listed"][0]["what"]
    path.unlink()
    assert b"No such file" in replay("verify").stdout


SPOILT = (
    "UPDATE archived_streams SET version = version + 1 WHERE stream = 2",
    "UPDATE archived_streams SET first = first + 1 WHERE stream = 2",
    "UPDATE archived_streams SET last = 'x' WHERE stream = 3",
    "DELETE FROM archived_streams WHERE stream = 3",
    "UPDATE streams SET name = name || 'x' WHERE id = 4",
    "UPDATE archived_origins SET oseq = oseq - 1",
    "UPDATE archived_origins SET digest = zeroblob(32)",
)


def test_where_the_archive_ends_is_proven_too(replay: Run, recorder: Recorder, tmp_path: Path) -> None:
    replay("archive", "--before", "30")
    for spoil in SPOILT:
        shutil.copytree(recorder.data_dir, tmp_path / "spoilt", dirs_exist_ok=True)
        with sqlite3.connect(tmp_path / "spoilt" / "events.db") as shell:
            for (trigger,) in shell.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                shell.execute(f"DROP TRIGGER {trigger}")
            shell.execute(spoil)
        assert replay("verify", data_dir=tmp_path / "spoilt").returncode == 1, spoil
    assert verified(replay)["findings"] == 0


def test_only_what_every_projection_has_folded_is_dropped(replay: Run, recorder: Recorder) -> None:
    replay("archive", "--before", "20")
    replay("archive", "--before", ALL)
    assert durable_position(recorder.data_dir) == 0
    assert b"nothing to drop" in replay("archive", "--drop-before", ALL).stdout
    replay("rebuild")
    before = tables(recorder.data_dir)["requests"]
    done = orjson.loads(replay("archive", "--drop-before", "25", "--json").stdout)
    assert len(done["dropped"]) == 1
    assert tables(recorder.data_dir)["requests"] == before
    assert verified(replay)["findings"] == 0
    assert b"history up to position 19 was dropped" in replay("verify").stdout
    assert replay("show", recorder.ids[0]).returncode == 1
    assert b"history up to position 19 is gone" in replay("rebuild").stdout


def test_a_log_that_goes_on_after_a_drop_keeps_what_is_folded(replay: Run, recorder: Recorder) -> None:
    """The engine opens again on a log that no longer has what it was made from, and does not begin anew."""
    replay("archive", "--before", ALL)
    replay("rebuild")
    replay("archive", "--drop-before", ALL)
    rows = tables(recorder.data_dir)["requests"]
    with Reader(recorder.data_dir) as reader:
        assert reader.dropped() > 0
        engine = Engine(recorder.data_dir, reader)
        while engine.step():
            pass
        engine.close()
    assert tables(recorder.data_dir)["requests"] == rows


class Forgetful(Archiving):
    """The bug: what is old is dropped, whoever still needs it."""

    def _may_go(self, segment: tuple[int, int], until: int, folded: int) -> bool:
        return segment[1] <= until


class ForgetfulArchivist(Archivist):
    archiving = Forgetful


async def test_twin_that_drops_what_no_projection_has_folded_loses_it(tmp_path: Path, recorder: Recorder) -> None:
    log = await SQLiteLog.open(recorder.data_dir)
    archivist = ForgetfulArchivist(log, recorder.data_dir)
    await archivist.asked("archive", 1 << 40)
    assert (await archivist.asked("drop", 1 << 40))["dropped"] != []
    await log.close()
    with Reader(recorder.data_dir) as reader:
        assert reader.read_stream(f"request-{recorder.ids[0]}") == []


async def streamed(session: aiohttp.ClientSession, url: str, text: str) -> tuple[str, bytes]:
    """One streamed answer: its request id and its bytes."""
    body = {"model": "demo/echo", "stream": True, "messages": [{"role": "user", "content": text}]}
    async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
        return answer.headers["x-request-id"], await answer.read()


async def shown(session: aiohttp.ClientSession, url: str) -> tuple[list[Any], bytes]:
    """A request's events, and its answer again."""
    async with session.get(f"{url}/events") as answer:
        events = (await answer.json())["data"]
    async with session.get(f"{url}/stream") as answer:
        return events, await answer.read()


async def test_a_running_server_archives_and_serves_what_is_archived(tmp_path: Path) -> None:
    async with (
        server_process(tmp_path / "logs", env={}, args=("--nats", "off")) as server,
        aiohttp.ClientSession() as session,
    ):
        answers = [await streamed(session, server.url, f"one two {n}") for n in range(5)]
        url = f"{server.url}/v1/requests/{answers[0][0]}"
        before = await shown(session, url)
        options = command.argparse.Namespace(
            data_dir=tmp_path / "logs", before=int(ALL), keep_days=None, drop_before=None, json=True
        )
        more = asyncio.gather(*(streamed(session, server.url, "and on") for _ in range(5)))
        assert await asyncio.to_thread(command.run, options) == 0
        await more
        with Reader(tmp_path / "logs") as reader:
            assert reader.sealed() > 20
        assert await shown(session, url) == before
        await server.kill()
        await server.restart()
        assert await shown(session, f"{server.url}/v1/requests/{answers[0][0]}") == before
        again = await streamed(session, server.url, "one two 0")
        assert again[1].count(b"data: ") == answers[0][1].count(b"data: ")
        options.before, options.drop_before = None, int(ALL)
        with Reader(tmp_path / "logs") as reader:
            async with asyncio.timeout(PATIENCE_S):
                while not reader.dropped():  # until the follower has folded what the restart recorded
                    assert await asyncio.to_thread(command.run, options) == 0
        async with session.get(f"{server.url}/v1/requests/{answers[0][0]}/events") as answer:
            assert answer.status == 404
        async with session.get(f"{server.url}/v1/requests/{answers[0][0]}") as answer:
            assert (await answer.json())["state"] == "completed"


COMMANDS, RUNNING = (
    "test_every_command_reads_it_as_before",
    "test_a_running_server_archives_and_serves_what_is_archived",
)


@pytest.mark.parametrize(
    ("bug", "test", "said"),
    [
        ("live_frames", COMMANDS, "At index 0 diff"),
        ("live_rows", COMMANDS, "At index 0 diff"),
        ("live_streams", RUNNING, "KeyError: 'data'"),  # what the server says instead of the request's events
        ("live_frames", RUNNING, "KeyError: 'data'"),
    ],
)
async def test_twin_that_forgets_what_is_archived(bug: str, test: str, said: str) -> None:
    told = await asyncio.to_thread(failure, "tests.replay.careless", bug, f"replay/test_archive.py::{test}")
    assert said in told
