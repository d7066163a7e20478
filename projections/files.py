"""The files of file projections: appended at the byte that the checkpoint knows, whatever a crash left behind it."""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from projections.projection import Projection, is_file_projection

_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False).encode


def json_line(value: dict[str, Any]) -> bytes:
    """One line of JSON, without its newline, with `": "` and `", "` between things: `grep '"model": "…"'` finds it."""
    return _encode(value).encode()


class ProjectionFiles:
    """The files of one projection in the data directory, with the lengths that belong to its checkpoint."""

    def __init__(self, data_dir: Path, projection: str, patterns: Sequence[str]) -> None:
        self._data_dir = data_dir
        self._projection = projection
        self._patterns = patterns

    def append(self, rows: sqlite3.Connection, lines: Iterable[tuple[str, bytes]]) -> None:
        """Write lines behind what the checkpoint knows, and note the new lengths in the caller's transaction."""
        grouped: dict[str, list[bytes]] = {}
        for file, line in lines:
            grouped.setdefault(file, []).append(line)
        lengths = self._lengths(rows) if grouped else {}
        for file, parts in grouped.items():
            data = b"\n".join(parts) + b"\n"
            start = lengths.get(file, 0)
            _write_at(self._data_dir / file, start, data)
            rows.execute("REPLACE INTO projection_files VALUES (?, ?, ?)", (self._projection, file, start + len(data)))

    def whole(self, rows: sqlite3.Connection) -> bool:
        """Whether every file is there with at least the bytes of the checkpoint. Cheap: for before every batch."""
        return all(_size(self._data_dir / file) >= length for file, length in self._lengths(rows).items())

    def settle(self, rows: sqlite3.Connection) -> bool:
        """Cut what a crash left behind the checkpoint. False where a file is missing, short, or ends in no line (as
        blocks that a power cut left empty do): such a projection is to be made anew."""
        return all(_settle(self._data_dir / file, length) for file, length in self._lengths(rows).items())

    def remove(self) -> None:
        """Delete the files, those that no checkpoint remembers too."""
        for pattern in self._patterns:
            for path in self._data_dir.glob(pattern):
                path.unlink(missing_ok=True)

    def _lengths(self, rows: sqlite3.Connection) -> dict[str, int]:
        return dict(
            rows.execute(
                "SELECT file, length FROM projection_files WHERE projection = ?", (self._projection,)
            ).fetchall()
        )


def set_aside(data_dir: Path, projections: Iterable[Projection]) -> list[Path]:
    """Rename files that bear the names of ours but were there before the log: they are not made from it, and nothing
    could make them again. For a directory whose log is new. Gives the new names, `<name>.before` and a number."""
    found = []
    for projection in projections:
        if is_file_projection(projection):
            for pattern in projection.patterns:
                found += [path for path in sorted(data_dir.glob(pattern)) if path.is_file()]
    return [_rename(path) for path in found]


def _rename(path: Path) -> Path:
    for number in itertools.count(1):
        aside = path.with_name(f"{path.name}.before{number}")
        if not aside.exists():
            break
    return path.rename(aside)


def _write_at(path: Path, start: int, data: bytes) -> None:
    """Raises `OSError` where the file is shorter than `start`: somebody cut it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(path, flags, 0o600)
    try:
        size = os.fstat(fd).st_size
        if size < start:
            raise OSError(f"{path.name} has {size} bytes where the checkpoint knows {start}")
        if size > start:
            os.ftruncate(fd, start)
        view = memoryview(data)
        while view:
            written = os.pwrite(fd, view, start)
            view, start = view[written:], start + written
    finally:
        os.close(fd)


def _settle(path: Path, length: int) -> bool:
    if _size(path) < length:
        return False
    with path.open("r+b") as file:
        file.truncate(length)
        if length:
            file.seek(length - 1)
        return not length or file.read(1) == b"\n"


def _size(path: Path) -> int:
    """-1 for a file that is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1
