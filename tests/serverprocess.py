"""The real server as a process of its own, as a user starts it: for tests that call, kill and search it.

    async with server_process(tmp_path / "logs", env={"OPENAI_API_KEY": "k"}) as server:
        ...                     # call server.url
        await server.kill()     # no warning
        await server.restart()  # the same directory, settings and file of what it said

Its environment is what is given and what Python needs, nothing of ours: no key of the person who runs the tests.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMAND: tuple[str, ...] = (sys.executable, "-m", "gateway")
"""What a server is started by, unless a test says otherwise; `spoilt` has its own."""
LISTENS = b"AbstractCore Server listens on "
STARTS_WITHIN_S = 120.0
ENDS_WITHIN_S = 60.0
"""So that a hang ends; a busy machine takes half a minute to load an embedding model."""


class ServerProcess:
    """A server on `data_dir`, one run after the other. `url` is where the present run listens."""

    def __init__(
        self, data_dir: Path, *, env: Mapping[str, str], args: Sequence[str], command: Sequence[str] = COMMAND
    ) -> None:
        self.data_dir = data_dir
        self.url = ""
        self._env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **env}
        self._command = (*command, "--port", "0", "--data-dir", str(data_dir), *args)
        self._said = data_dir.with_name(f"{data_dir.name}.said")
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Of the present run, or of the last one."""
        return self._running().pid

    @property
    def children(self) -> list[int]:
        """The pids of the processes that the present run has started itself. The format: proc_pid_children(5)."""
        threads = Path(f"/proc/{self.pid}/task").glob("*/children")
        return [int(pid) for thread in threads for pid in thread.read_text().split()]

    @property
    def exit_code(self) -> int | None:
        """Of the last run, None while it runs; minus the signal that ended it."""
        return self._running().returncode

    @property
    def said(self) -> bytes:
        """Standard output and error of all runs."""
        return self._said.read_bytes() if self._said.exists() else b""

    async def start(self) -> None:
        """Start it, until it says where it listens. Raises `RuntimeError` with what it said where it ended instead."""
        before = len(self.said)
        with self._said.open("ab") as said:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.DEVNULL, stdout=said, stderr=said, cwd=ROOT, env=self._env
            )
        try:
            async with asyncio.timeout(STARTS_WITHIN_S):
                while not (url := _url(self.said[before:])):
                    if self.exit_code is not None:
                        said_now = self.said[before:].decode(errors="replace")
                        raise RuntimeError(f"it ended with {self.exit_code}: {said_now}")
                    await asyncio.sleep(0.02)
        except TimeoutError:
            await self.kill()
            raise
        self.url = url

    async def kill(self) -> None:
        """SIGKILL; nothing is flushed, nobody is told. Does nothing where it has ended."""
        self._signal(signal.SIGKILL)
        await self.wait()

    async def terminate(self) -> int:
        """SIGTERM, and wait for the orderly end; the exit code. Kills it where it does not come."""
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(ENDS_WITHIN_S):
                return await self.wait()
        except TimeoutError:
            await self.kill()
            raise

    async def wait(self) -> int:
        """Wait until the present run has ended; the exit code."""
        return await self._running().wait()

    async def restart(self) -> None:
        """End it, if it still runs, and start it again on the same directory: on another port, as it is given one."""
        await self.terminate()
        await self.start()

    def _signal(self, number: signal.Signals) -> None:
        if self.exit_code is None:
            self._running().send_signal(number)

    def _running(self) -> asyncio.subprocess.Process:
        assert self._process is not None, "it was never started"
        return self._process


@asynccontextmanager
async def server_process(
    data_dir: Path,
    *,
    env: Mapping[str, str] | None = None,
    args: Sequence[str] = ("--nats", "off"),
    command: Sequence[str] | None = None,
) -> AsyncIterator[ServerProcess]:
    """A started server; at the end of the block it is killed, if it still runs.

    `args` replace the default `--nats off`; `command` replaces `COMMAND`, for a server with a bug put in.
    """
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    server = ServerProcess(data_dir, env=env or {}, args=args, command=command or COMMAND)
    try:
        await server.start()
        yield server
    finally:
        if server._process is not None:
            await server.kill()


def _url(said: bytes) -> str:
    """Where it listens, once the whole line is there."""
    for line in said.splitlines(keepends=True):
        if line.startswith(LISTENS) and line.endswith(b"\n"):
            return line.removeprefix(LISTENS).decode().strip()
    return ""
