"""Does the write-ahead log end where it must not? SQLite reads it up to the first frame that is not as it was written,
and takes that for the end: a power cut tore the last transaction. A bit that turned over looks the same, and hides all
that was acknowledged behind it.

What tells them apart: each frame's checksum goes on from the one before it. A frame that goes on from the end of a
transaction was written when that transaction was on the disk, so nothing up to there can have been torn.

The format: https://sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import os
import sys
from array import array
from hashlib import sha256
from pathlib import Path
from struct import Struct
from typing import BinaryIO

from eventstore.syncing import sync_names

SUFFIX = "-wal"
PAGE_SIZE = 4096
"""Of every log, as `database.py` makes them; the header that says so may be what is damaged."""
KEPT = ".damaged-"
"""Behind the name of a damaged write-ahead log that is kept; a piece of its sha256 follows."""
_HEADER = Struct(">4I8s2I")  # magic, version, page size, checkpoints, salts, checksums
_FRAME = Struct(">2I8s2I")  # page, size of the database after a commit (else 0), salts, checksums
_MAGIC = 0x377F0682
"""Its lowest bit says whether checksums read the words with the highest byte first."""

Sums = tuple[int, int]


def lost_transactions(file: BinaryIO) -> int:
    """How many transactions lie at and behind the first damage in a write-ahead log, where that hides one that was on
    the disk; 0 where all is well, or nothing but the last one is torn."""
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return 0
    magic, _, _, _, salts, *stored = _HEADER.unpack(header)
    swapped, sums = bool(magic & 1) == (sys.byteorder == "little"), (stored[0], stored[1])
    headed = sound = magic & ~1 == _MAGIC and _checksum(header[:24], (0, 0), swapped) == sums
    if not headed:
        swapped, salts = False, None
    hidden, proven, ended = 0, False, False
    while len(frame := file.read(_FRAME.size + PAGE_SIZE)) == _FRAME.size + PAGE_SIZE:
        _, size, salt, *stored = _FRAME.unpack_from(frame)
        salts = salts or salt
        follows = salt == salts and _checksum(frame[24:], _checksum(frame[:8], sums, swapped), swapped) == tuple(stored)
        # a header is on the disk before the first frame is written
        proven |= not sound and follows and (ended or (not headed and size > 0))
        sound = sound and follows
        ended, sums = size > 0, (stored[0], stored[1])
        hidden += ended and salt == salts and not sound
    return hidden if proven else 0


def _checksum(content: bytes, sums: Sums, swapped: bool) -> Sums:
    words = array("I", content)
    if swapped:
        words.byteswap()
    first, second = sums
    in_turn = iter(words)
    for one, other in zip(in_turn, in_turn, strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second


def lost_behind(database: Path) -> int:
    """The same of a database's write-ahead log, also while somebody writes there; 0 where there is none."""
    return _lost(database) and _lost(database)  # what was torn because it was just being written is whole by now


def _lost(database: Path) -> int:
    path = _beside(database)
    while True:
        try:
            with path.open("rb") as file:
                header = file.read(_HEADER.size)
                file.seek(0)
                lost = lost_transactions(file)
                file.seek(0)
                if not lost or file.read(_HEADER.size) == header:  # else it was begun anew while it was read
                    return lost
        except FileNotFoundError:
            return 0


def keep(database: Path) -> Path:
    """Keep a copy of a damaged write-ahead log, its name too, before SQLite writes over it. Raises `OSError`."""
    path = _beside(database)
    content = path.read_bytes()
    kept = path.with_name(f"{path.name}{KEPT}{sha256(content).hexdigest()[:8]}")
    if not kept.exists():
        made = kept.with_suffix(".new")
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        made.replace(kept)
    sync_names(kept.parent)
    return kept


def remove(database: Path) -> None:
    """Take the write-ahead log from a database that nobody has open."""
    for suffix in ("-shm", SUFFIX):
        database.with_name(database.name + suffix).unlink(missing_ok=True)


def has_content(database: Path) -> bool:
    """Whether there is anything in its write-ahead log, be it in the file itself already or not."""
    path = _beside(database)
    return path.exists() and path.stat().st_size > 0


def kept_beside(database: Path) -> list[str]:
    """The names of the damaged write-ahead logs that were kept, and not looked after yet."""
    return sorted(path.name for path in database.parent.glob(f"{database.name}{SUFFIX}{KEPT}????????"))


def _beside(database: Path) -> Path:
    return database.with_name(database.name + SUFFIX)
