"""A real nats-server for tests: on a port of its own, with a store that outlives a kill."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

from gateway.nats_server import binary
from tests.ports import free_port

STARTS_WITHIN_S = 120.0


class Natsd:
    """A server under `directory`. It keeps its port over restarts. `limits` go into its `jetstream`
    block, `more` follows in its configuration; both may be changed while it is down."""

    def __init__(self, directory: Path, *, limits: str = "", more: str = "") -> None:
        self.directory = directory
        self.limits, self.more = limits, more
        self.store = directory / "jetstream"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://secret-of-the-test@127.0.0.1:{self.port}"

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "server.conf"
        config.write_text(
            f'listen: "127.0.0.1:{self.port}"\nports_file_dir: "{self.directory}"\n'
            f'authorization {{ token: "secret-of-the-test" }}\n'
            f'jetstream {{ store_dir: "{self.store}"\n{self.limits} }}\nlog_file: "{self.directory}/log"\n{self.more}\n'
        )
        self._process = subprocess.Popen([binary(), "-c", config])
        ports = self.directory / f"nats-server_{self._process.pid}.ports"
        deadline = time.monotonic() + STARTS_WITHIN_S
        while not ports.exists():
            assert time.monotonic() < deadline, "nats-server did not start"
            assert self._process.poll() is None, (self.directory / "log").read_text()
            time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL: nothing is flushed."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def terminate(self) -> None:
        """SIGTERM: it writes its indexes, and ends."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """SIGSTOP: connections stay, nothing answers. `kill` ends it all the same."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it goes on with all that it was sent meanwhile."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def wipe(self) -> None:
        shutil.rmtree(self.store)
