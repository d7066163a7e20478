"""Files of this machine that requests may name: regular ones inside one folder, and no way out of it."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath

from gateway.errors import InvalidRequest, TooLarge

OFF = "Local files are off on this server (--files-root turns them on): send the file as a data URL."


class LocalFiles:
    """Reads below `root`; None refuses everything. Blocking: call it in a thread."""

    follow = os.O_NOFOLLOW
    """A symbolic link at any step of the path, which could lead out, opens nothing."""

    def __init__(self, root: Path | None) -> None:
        self._root = root.resolve() if root is not None else None

    @property
    def on(self) -> bool:
        """Whether any local file may be read."""
        return self._root is not None

    def read(self, path: str, where: str, limit: int) -> bytes:
        """The bytes of a file, by its path below the root, or its absolute one. `where` names the part in errors.

        Raises `InvalidRequest` (one text for all that is no readable file there), `TooLarge`.
        """
        if self._root is None:
            raise InvalidRequest(OFF, param=where, code="local_files_off")
        try:
            return self._read(self._steps(path, self._root), where, limit, self._root)
        except (OSError, ValueError) as error:
            raise InvalidRequest(
                f"There is no file for {where} in the folder that this server may read.",
                param=where,
                code="file_not_found",
            ) from error

    @staticmethod
    def _steps(path: str, root: Path) -> tuple[str, ...]:
        """The names to walk from the root. Raises `ValueError` for a path that leads elsewhere."""
        asked = PurePosixPath(path)
        if asked.is_absolute():
            asked = asked.relative_to(root)
        if not asked.parts or ".." in asked.parts or "\0" in path:
            raise ValueError(path)
        return asked.parts

    def _read(self, steps: tuple[str, ...], where: str, limit: int, root: Path) -> bytes:
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for step in steps[:-1]:
                inner = os.open(step, os.O_RDONLY | os.O_DIRECTORY | self.follow, dir_fd=folder)
                os.close(folder)
                folder = inner
            opened = os.open(steps[-1], os.O_RDONLY | os.O_NONBLOCK | self.follow, dir_fd=folder)
        finally:
            os.close(folder)
        with os.fdopen(opened, "rb") as file:
            seen = os.fstat(opened)
            if not stat.S_ISREG(seen.st_mode) or seen.st_nlink != 1:  # a second name may lie outside
                raise ValueError("no regular file of its own")
            data = file.read(limit + 1)
        if len(data) > limit:
            raise TooLarge(f"The file at {where} is over {limit} bytes.", param=where)
        return data
