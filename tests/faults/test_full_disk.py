"""The whole server on a small disk of its own that fills up: what runs is finished, and service resumes by itself."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from eventstore.reader import Reader
from eventstore.space import BALLAST, FILE, MARGIN, RESERVE, free_bytes
from replay.recorded import read_request
from tests.crash.check import wrongs
from tests.crash.load import environ
from tests.faults.driver import DISK_REFUSED
from tests.faults.gated import GatedUpstream
from tests.faults.strace import STRACE, Fault, under
from tests.gateway.raw import RawClient, Received, ask, request
from tests.gateway.whole import PATIENCE_S, chat
from tests.serverprocess import COMMAND, ServerProcess, server_process

DISK = RESERVE + MARGIN + BALLAST + (32 << 20)
REST = 2_000
"""Words of a kilobyte that the running stream still has to come: more than the write-ahead log has room for."""
CRUMBS = 16 << 10
"""What a file system may count as free and not give."""
UNBALLASTED = (sys.executable, "-m", "tests.faults.unballasted_server")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(mounted)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip("mounting a small disk needs root")
    yield mounted
    subprocess.run(["umount", "--lazy", str(mounted)], check=True)  # a process of the server's may still be ending


def fill(disk: Path, leave: int = 0) -> Path:
    """Take all room but so many bytes, whatever others write meanwhile; the file to delete."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        while (missing := free_bytes(disk) - leave) > 0:
            try:
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), missing)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                if missing <= CRUMBS:
                    break
    return filler


@asynccontextmanager
async def serving(
    disk: Path, upstream: GatedUpstream, tmp_path: Path, command: Sequence[str] = COMMAND
) -> AsyncIterator[ServerProcess]:
    """A server whose data is on the disk, and what it says is not."""
    (tmp_path / "logs").symlink_to(disk, target_is_directory=True)
    async with server_process(tmp_path / "logs", env=environ(upstream.base_url), command=command) as server:
        yield server


async def begun(server: ServerProcess) -> RawClient:
    """A client whose stream has begun, and will not end yet."""
    client = await RawClient.connect(server.url)
    await client.send(request(chat(stream=True)))
    async with asyncio.timeout(PATIENCE_S):
        await client.until(b"first")
    return client


async def health(server: ServerProcess, wanted: str) -> list[str]:
    """Wait until the server says that it is so; the reasons."""
    async with asyncio.timeout(PATIENCE_S), aiohttp.ClientSession() as client:
        while True:
            async with client.get(f"{server.url}/health") as answer:
                said = await answer.json()
                if said["status"] == wanted:
                    assert answer.status == (503 if wanted == "failing" else 200)
                    return list(said.get("reasons", ()))
            await asyncio.sleep(0.05)


def finished(data_dir: Path, answer: Received) -> None:
    """The stream is whole, with all its words, and recorded so."""
    assert answer.whole
    assert b" %04d" % (REST - 1) in answer.body
    assert answer.body.endswith(b"data: [DONE]\n\n")
    with Reader(data_dir) as reader:
        assert read_request(reader, answer.request_id).state == "completed"


def refused(answer: Received) -> None:
    """Told so in OpenAI's shape, with a time to come again."""
    assert answer.status == 507
    assert int(answer.headers["retry-after"]) > 0
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("server_error", "insufficient_storage")
    assert set(error) == {"message", "type", "param", "code"}


async def test_new_work_waits_until_the_disk_has_room(tmp_path: Path, disk: Path) -> None:
    """It is refused while there is still room for what runs, and nothing of it is recorded."""
    async with GatedUpstream(rest=REST) as upstream, serving(disk, upstream, tmp_path) as server:
        running = await begun(server)
        filler = fill(disk, leave=RESERVE // 2)
        reasons = await health(server, "failing")
        assert reasons[0] == "the log's disk is nearly full: new requests are refused"
        before = upstream.asked
        answer = await ask(server.url, chat(stream=True))
        refused(answer)
        refused(await ask(server.url, chat()))
        assert upstream.asked == before
        upstream.gate.set()
        finished(server.data_dir, await running.answer())
        assert (server.data_dir / FILE).exists()
        filler.unlink()
        await health(server, "healthy")
        finished(server.data_dir, await ask(server.url, chat(stream=True)))
        assert await server.terminate() == 0
        assert answer.request_id.encode() not in (server.data_dir / "events.db").read_bytes()
        assert wrongs(server.data_dir, []) == []


async def filled_under_a_stream(server: ServerProcess, upstream: GatedUpstream, disk: Path) -> tuple[Path, Received]:
    """Not a byte is left when the rest of the stream comes; what its client got, and the file that fills the disk."""
    running = await begun(server)
    filler = fill(disk)
    upstream.gate.set()
    async with asyncio.timeout(PATIENCE_S):
        return filler, await running.answer()


async def test_what_runs_is_finished_on_the_ballast(tmp_path: Path, disk: Path) -> None:
    async with GatedUpstream(rest=REST) as upstream, serving(disk, upstream, tmp_path) as server:
        filler, answer = await filled_under_a_stream(server, upstream, disk)
        finished(server.data_dir, answer)
        assert not (server.data_dir / FILE).exists()
        await health(server, "failing")
        filler.unlink()
        await health(server, "healthy")
        assert (server.data_dir / FILE).stat().st_size == BALLAST
        again = await ask(server.url, chat(stream=True))
        finished(server.data_dir, again)
        assert await server.terminate() == 0
        assert wrongs(server.data_dir, [answer, again]) == []
        assert b"Traceback" not in server.said, server.said.decode()


async def test_having_no_ballast_is_noticed(tmp_path: Path, disk: Path) -> None:
    async with GatedUpstream(rest=REST) as upstream, serving(disk, upstream, tmp_path, UNBALLASTED) as server:
        _, answer = await filled_under_a_stream(server, upstream, disk)
        assert not answer.whole
        assert await server.wait() == DISK_REFUSED


@pytest.mark.system
@pytest.mark.skipif(STRACE is None, reason="there is no strace")
async def test_a_failed_sync_ends_the_server_and_the_next_start_is_clean(tmp_path: Path) -> None:
    data_dir = tmp_path / "logs"
    fault = Fault("fdatasync,fsync", "error=EIO", "20")
    command = (*under(fault, data_dir, tmp_path / "trace"), *COMMAND)
    answers: list[Received] = []
    async with GatedUpstream(rest=1) as upstream:
        upstream.gate.set()
        async with server_process(data_dir, env=environ(upstream.base_url), command=command) as server:
            async with asyncio.timeout(PATIENCE_S):
                while server.exit_code is None:
                    answers += await answered(server)
            assert await server.wait() == DISK_REFUSED
            assert b"the log can write no more: disk I/O error" in server.said
        async with server_process(data_dir, env=environ(upstream.base_url)):
            assert wrongs(data_dir, answers) == []
    assert any(answer.whole for answer in answers)


async def answered(server: ServerProcess) -> list[Received]:
    """One stream, unless the server has ended before it answered."""
    try:
        answer = await ask(server.url, chat(stream=True))
    except ConnectionError:
        await asyncio.sleep(0.02)
        return []
    return [answer] if answer.status == 200 else []
