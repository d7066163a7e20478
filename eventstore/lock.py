"""One process owns a data directory: a lock that dies with its owner."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from eventstore.errors import LogLocked
from eventstore.syncing import sync_names

FILE = "server.lock"


class DirectoryLock:
    """An exclusive `flock` on `<data_dir>/server.lock`, which holds the owner's pid.

    The kernel releases it when the process ends, however it ends; a file left behind means nothing.
    The directory is made if it is missing (mode 0700). Raises `LogLocked`.
    """

    def __init__(self, data_dir: Path) -> None:
        _make(data_dir)
        self._fd = os.open(data_dir / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            pid = os.pread(self._fd, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._fd)
            raise LogLocked(f"another abstractcore-server (pid {pid}) owns {data_dir}") from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let another process take the directory. The file stays: removing it would race with the next owner."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> DirectoryLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _make(directory: Path) -> None:
    """The directory and those above it, each durable in the one that holds it."""
    if directory.exists():
        return
    _make(directory.parent)
    directory.mkdir(mode=0o700, exist_ok=True)
    sync_names(directory.parent)
