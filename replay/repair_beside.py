"""Repairing what a running server has archived: its files are only read, so others of the same bytes may take their
places. The server says where its NATS is, and records what was made again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eventstore.archive import DIRECTORY
from eventstore.archive_ends import ArchiveEnds
from eventstore.archived import file_of
from eventstore.errors import LogLocked
from eventstore.lock import DirectoryLock
from eventstore.reader import Reader
from eventstore.repair import Before
from eventstore.repair_archive import MendedArchive, mend_archive
from gateway.control import ControlError, NotRunning, ask
from gateway.exchange.runs import run_of
from replay.recorded import ReplayError
from replay.repair_sources import copied_from, emptied

TOLD = 2_000
"""Positions of a lane that one request to the server names: its line is not without limit."""


def repaired_beside(data_dir: Path, nats: str, locked: LogLocked) -> dict[str, Any]:
    """As `repair.repaired`, of the archive alone, with `beside` set. The server is asked first, so that nothing is
    changed that would not be recorded. Raises `ReplayError`, `LogError`, `OSError`."""
    said = _asked(data_dir, {"command": "nats"}, locked)
    url = _url(said) if nats == "embedded" else nats
    archive = MendedArchive(Before(), ArchiveEnds(0, 0))
    if (data_dir / DIRECTORY).exists():
        with DirectoryLock(data_dir / DIRECTORY), emptied(data_dir / DIRECTORY) as aside:
            archive = mend_archive(data_dir, aside, asyncio.run(copied_from(url)), run_of)
            if not archive.lost:
                archive.put_in_place()
                _leave_dropped(data_dir, archive)
                _tell(data_dir, archive, locked)
    return {
        "events": archive.events,
        "frames": archive.frames,
        "files": [made.name for made, _ in archive.made],
        "lost": archive.lost,
        "beside": True,
    }


def _leave_dropped(data_dir: Path, archive: MendedArchive) -> None:
    """What the server dropped while it was made again is not to come back. What it drops from now on it finds."""
    with Reader(data_dir) as reader:
        there = {file_of(data_dir, segment) for segment in reader.segments()}
    for _, path in archive.made:
        if path not in there:
            path.unlink(missing_ok=True)


def _url(said: Mapping[str, Any]) -> str:
    """The bundled server's, with the token that only its owner can read."""
    if not said.get("url") or "token_file" not in said:
        raise ReplayError(f"the server's NATS is {said.get('state')}: name one with --nats")
    token = Path(said["token_file"]).read_text().strip()
    return f"nats://{token}@{said['url'].removeprefix('nats://')}"


def _tell(data_dir: Path, archive: MendedArchive, locked: LogLocked) -> None:
    for begin in range(0, max(len(archive.events), len(archive.frames)), TOLD):
        positions = {"events": archive.events[begin : begin + TOLD], "frames": archive.frames[begin : begin + TOLD]}
        _asked(data_dir, {"command": "repaired", **positions}, locked)


def _asked(data_dir: Path, request: Mapping[str, Any], locked: LogLocked) -> dict[str, Any]:
    try:
        return ask(data_dir, request)
    except NotRunning as error:
        raise ReplayError(f"{locked}, but it does not listen on its control socket") from error
    except ControlError as error:
        raise ReplayError(f"the server refused: {error}") from error
