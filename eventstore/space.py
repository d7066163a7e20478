"""Room on the disk: when new work is refused, and the ballast that lets what already runs be recorded.

A full disk is no broken disk: SQLite rolls the commit back and the file is as it was. So the log gets through it in
two steps. While less than `RESERVE` is free, new work is refused and the reserve is left to what was admitted. If the
disk is full all the same (others write there too), a ballast file is deleted and the same commit is made again. Where
there is room again the ballast is taken back, and new work with it.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

FILE = "ballast"
BALLAST = 16 << 20
"""Bytes of the ballast: what is written between two checkpoints (8 MiB) may stand in the write-ahead log and, a second
time, in the database."""
RESERVE = 64 << 20
"""Bytes that must be free for new work: all that may be queued (32 MiB), written twice over in the same way. No share
of the disk: what running calls still need does not grow with it."""
MARGIN = 32 << 20
"""Bytes over the reserve that must be free before new work is taken again, so that it is not refused at once."""
LOOK_S = 1.0

logger = logging.getLogger(__name__)


def free_bytes(directory: Path) -> int:
    """What an unprivileged process could still write on the file system of a directory."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


class DiskSpace:
    """Watches the file system of a directory and holds the ballast there (mode 0600). For one thread, the writer's;
    only `short` may be read by others. Raises `OSError` where the directory cannot be used.

    `short`: new work should be refused. `warning` is a sentence for the operator, or None.
    """

    ballast, reserve, margin, look_s = BALLAST, RESERVE, MARGIN, LOOK_S

    def __init__(
        self,
        directory: Path,
        free: Callable[[Path], int] = free_bytes,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory, self._path = directory, directory / FILE
        self._free_bytes, self._monotonic = free, monotonic
        self._look_at = monotonic() + self.look_s
        self.warning: str | None = None
        self.short = self._free() < self.reserve or not self._take()
        if self.short:
            # At a start nothing runs that the ballast would be for, but the start itself has something to record.
            self._drop()
            self.warning = f"the disk of {directory} is nearly full: new work is refused until there is room"

    def look(self) -> None:
        """Once a second, when called often enough: compare what is free with what should be."""
        now = self._monotonic()
        if now < self._look_at:
            return
        self._look_at = now + self.look_s
        if not self.short:
            self._become(self._free() < self.reserve)
        elif self._free() >= self._enough():
            self._become(not self._take())

    def give_up(self) -> bool:
        """A write found no room: free the ballast and refuse new work. False where there is no ballast to free."""
        self._become(True)
        return self._drop()

    def close(self) -> None:
        """Leave no ballast behind: who does not run needs none."""
        try:
            self._drop()
        except OSError as error:
            logger.warning("the ballast stays: %s", error)

    def _become(self, short: bool) -> None:
        if short and not self.short:
            logger.warning("the disk of %s is nearly full: new work is refused", self._directory)
        elif self.short and not short:
            logger.warning("the disk of %s has room again: new work is taken", self._directory)
        self.short = short

    def _free(self) -> int:
        return self._free_bytes(self._directory)

    def _enough(self) -> int:
        missing = 0 if self._path.exists() else self.ballast
        return self.reserve + self.margin + missing

    def _take(self) -> bool:
        """Have the ballast, really allocated. False where the disk has no room for it; a file system that cannot do it
        is served without."""
        try:
            _allocate(self._path, self.ballast)
        except OSError as error:
            self._drop()
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return False
            self.warning = f"there is no ballast ({error.strerror}): a full disk will end the server"
        return True

    def _drop(self) -> bool:
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        return True


def _allocate(path: Path, size: int) -> None:
    """A file of this size whose blocks are its own."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:  # macOS
            file.write(bytes(size))
