"""The bundled nats-server as a child: private, tied to its parent, started again, and never two on one store."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import nats.errors
import pytest

from gateway.nats_server import KNOWN_SHA256, NatsServer, binary, end_stale, subscribe_line, warning_about
from tests.ports import free_port

ROOT = Path(__file__).parent.parent.parent


class Apart(NatsServer):
    """A server whose usual port is no other test's."""

    def __init__(self, data_dir: Path) -> None:
        self.usual_port = free_port()
        super().__init__(data_dir)


@asynccontextmanager
async def embedded(data_dir: Path, kind: type[NatsServer] = Apart) -> AsyncIterator[NatsServer]:
    """A supervised child, ready."""
    server = kind(data_dir)
    task = asyncio.create_task(server.run())
    try:
        async with asyncio.timeout(60):
            await server.address()
        yield server
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await server.stop()


def alive(pid: int) -> bool:
    """Whether this process runs (a dead one that nobody waited for does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def until(met: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(60):
        while not met():
            await asyncio.sleep(0.01)
    assert met(), what


def pid_of(server: NatsServer) -> int:
    return int(server.files.pid_file.read_text())


async def test_serves_jetstream_to_who_has_the_token(tmp_path: Path) -> None:
    async with embedded(tmp_path) as server:
        assert server.state == "running"
        client = await nats.connect(await server.address())
        assert (await client.jetstream().account_info()).streams == 0
        await client.close()
        assert server.url is not None
        assert server.url.startswith("nats://127.0.0.1:")
        with pytest.raises(nats.errors.Error):
            await nats.connect(server.url, allow_reconnect=False, max_reconnect_attempts=1, reconnect_time_wait=0)
    assert server.state == "stopped"
    assert not server.files.pid_file.exists()


async def test_the_token_is_in_private_files_and_nowhere_else(tmp_path: Path) -> None:
    async with embedded(tmp_path) as server:
        token = server.files.token_file.read_bytes()
        assert len(token) >= 32
        holders = [file for file in server.files.directory.rglob("*") if file.is_file() and token in file.read_bytes()]
        assert sorted(file.name for file in holders) == ["server.conf", "token"]
        assert {stat.S_IMODE(file.stat().st_mode) for file in holders} == {0o600}
        assert stat.S_IMODE(server.files.directory.stat().st_mode) == 0o700
        for process in Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ"):
                assert token not in _bytes(process / name), f"{process}/{name}"
        assert token.decode() not in subscribe_line(server.url or "", server.files.token_file)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


async def test_listens_on_loopback_alone_and_opens_nothing_else(tmp_path: Path) -> None:
    async with embedded(tmp_path) as server:
        pid = pid_of(server)
        inodes = {os.readlink(fd)[8:-1] for fd in Path(f"/proc/{pid}/fd").iterdir() if "socket:" in os.readlink(fd)}
        listening = [
            line.split()[1]
            for table in ("tcp", "tcp6")
            for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
            if line.split()[3] == "0A" and line.split()[9] in inodes
        ]
        port = int((server.url or "").rpartition(":")[2])
        assert listening == [f"0100007F:{port:04X}"]


async def test_takes_a_free_port_where_the_usual_one_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        class Late(NatsServer):
            usual_port = taken.getsockname()[1]

        async with embedded(tmp_path, Late) as server:
            assert server.url
            assert not server.url.endswith(f":{Late.usual_port}")


async def test_a_child_that_dies_is_followed_by_another_on_the_same_port(tmp_path: Path) -> None:
    async with embedded(tmp_path) as server:
        url, pid = server.url, pid_of(server)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: server.state == "restarting", "the death is seen")
        assert "ended" in (server.error or "")
        await until(lambda: server.state == "running", "another runs")
        assert server.url == url
        assert pid_of(server) != pid


async def _orphan(tmp_path: Path, launcher: str, patience_s: float = 60.0) -> tuple[int, bool]:
    """A parent that starts the child through `launcher`, and is killed. The child's pid, and whether it then ends."""
    script = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        from gateway import tethered
        from gateway.nats_server import NatsServer
        tethered.__file__ = sys.argv[2]

        async def main():
            server = NatsServer(Path(sys.argv[1]))
            task = asyncio.create_task(server.run())
            await server.address()
            print(server.files.pid_file.read_text(), flush=True)
            await task

        asyncio.run(main())
        """
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "orphaned", launcher], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert parent.stdout is not None
    pid = int(await asyncio.to_thread(parent.stdout.readline))
    assert alive(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + patience_s
    while alive(pid) and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    return pid, not alive(pid)


async def test_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    assert (await _orphan(tmp_path, str(ROOT / "gateway" / "tethered.py")))[1]


async def test_untethered_it_outlives_its_parent_and_the_next_run_ends_it(tmp_path: Path) -> None:
    """The deliberate bug: a launcher that only becomes the program. What it leaves behind must not hold the store."""
    untethered = tmp_path / "untethered.py"
    untethered.write_text("import os, sys\nos.execv(sys.argv[2], sys.argv[2:])\n")
    pid, ended = await _orphan(tmp_path, str(untethered), 2.0)
    assert not ended
    async with embedded(tmp_path / "orphaned") as server:
        assert not alive(pid)
        assert pid_of(server) != pid


async def test_a_stale_pid_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    async with embedded(tmp_path / "other") as other:
        mine = NatsServer(tmp_path / "mine").files
        mine.prepare()
        mine.pid_file.write_text(str(pid_of(other)))
        end_stale(mine)
        assert alive(pid_of(other))
        assert not mine.pid_file.exists()


async def test_a_directory_with_an_odd_name(tmp_path: Path) -> None:
    async with embedded(tmp_path / 'a "quoted" $name # 100%') as server:
        assert server.state == "running"


def test_the_binary_is_the_known_one_and_another_is_told(tmp_path: Path) -> None:
    program = binary()
    assert warning_about(program) is None
    changed = tmp_path / "nats-server"
    changed.write_bytes(program.read_bytes() + b"\0")
    assert "not the known one" in (warning_about(changed) or "")
    assert "unchecked" in (warning_about(program, {}) or "")
    assert all(len(digest) == 64 for digest in KNOWN_SHA256.values())


def test_the_line_for_users_reads_the_token_from_its_file() -> None:
    line = subscribe_line("nats://127.0.0.1:4222", Path("/var/a b/token"))
    assert line == (
        "nats sub --server \"nats://$(cat '/var/a b/token')@127.0.0.1:4222\" "
        "'abstractcore.events.generation_completed.>'"
    )
