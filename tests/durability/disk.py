"""A disk that forgets: every write of SQLite recorded by a VFS of ours, and what a power cut leaves of them.

What was synced is there. Of what was not, each 512-byte sector may be there or not, whatever the order of the writes.
A truncated file may have its old length, and a name that was made or deleted is certain only once the directory was
synced, as SQLite does with the first sync of a journal or write-ahead log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from random import Random

import apsw

SECTOR = 512
RECORDED = "recorded"
"""The VFS's name, for `apsw.Connection(vfs=…)`."""

_JOURNALS = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL | apsw.SQLITE_OPEN_WAL


@dataclass(frozen=True, slots=True)
class Create:
    """`file` is there now, and empty."""

    file: str


@dataclass(frozen=True, slots=True)
class Delete:
    """`file` is gone."""

    file: str


@dataclass(frozen=True, slots=True)
class Write:
    """`data` at `offset` of `file`."""

    file: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    """`file` has `size` bytes now."""

    file: str
    size: int


@dataclass(frozen=True, slots=True)
class Sync:
    """What was done to the content of `file` so far is durable."""

    file: str


@dataclass(frozen=True, slots=True)
class SyncDirectory:
    """Which files there are is durable."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Somebody was told that the log's rows up to `head` are durable."""

    head: int


Operation = Create | Delete | Write | Truncate | Sync | SyncDirectory | Acknowledged


class Recorder(apsw.VFS):
    """The operations of every database opened through it, in order. The files themselves are written as usual, but
    never synced: nobody cuts the power here. Use as a context manager: SQLite knows a VFS until it is unregistered."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        super().__init__(RECORDED, base="unix")

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.unregister()

    def acknowledged(self, head: int) -> None:
        """Note what was promised at this moment."""
        self.operations.append(Acknowledged(head))

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _RecordedFile(name, flags, self.operations)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        self.operations.append(Delete(Path(filename).name))
        if syncdir:
            self.operations.append(SyncDirectory())


class _RecordedFile(apsw.VFSFile):
    def __init__(self, name: str | apsw.URIFilename | None, flags: list[int], operations: list[Operation]) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        assert path is not None  # temporary files have no name; a log needs none
        self._file, self._operations = Path(path).name, operations
        self._syncs_directory = bool(flags[0] & _JOURNALS)
        if not Path(path).exists():
            operations.append(Create(self._file))
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._operations.append(Write(self._file, offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:
        self._operations.append(Truncate(self._file, size))
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:
        self._operations.append(Sync(self._file))
        if self._syncs_directory:
            self._operations.append(SyncDirectory())
            self._syncs_directory = False


Files = dict[str, bytes]
"""What lies on a disk, by name."""


class Cut(Enum):
    """How much survives of what was not synced, where not every sector's fate is thrown."""

    NOTHING = "none"
    EVERYTHING = "all"


Fate = Cut | int
"""A cut, or the seed of the throws: a file's sectors then depend on what was done to that file alone."""


@dataclass(slots=True)
class Content:
    """A file whatever its name: what is durable of it, what was done to it since, and what that makes of it."""

    durable: bytes = b""
    pending: list[Write | Truncate] = field(default_factory=list)
    present: bytearray = field(default_factory=bytearray)

    def do(self, change: Write | Truncate) -> None:
        self.pending.append(change)
        _change(self.present, change)

    def sync(self) -> None:
        self.durable, self.pending = bytes(self.present), []

    def after(self, name: str, fate: Fate) -> bytes:
        if fate is Cut.NOTHING or not self.pending:
            return self.durable
        if fate is Cut.EVERYTHING:
            return bytes(self.present)
        throws, found = Random(f"{fate} {name} {len(self.durable)} {len(self.pending)}"), bytearray(self.durable)
        for change in self.pending:
            for part in _sectors(change) if isinstance(change, Write) else [change]:
                if throws.random() < 0.5:
                    _change(found, part)
        return bytes(found)


def _change(content: bytearray, change: Write | Truncate) -> None:
    if isinstance(change, Truncate):
        del content[change.size :]
        return
    end = change.offset + len(change.data)
    content.extend(bytes(max(0, end - len(content))))
    content[change.offset : end] = change.data


def _sectors(write: Write) -> Iterator[Write]:
    start, end = write.offset, write.offset + len(write.data)
    while start < end:
        stop = min(end, (start // SECTOR + 1) * SECTOR)
        yield Write(write.file, start, write.data[start - write.offset : stop - write.offset])
        start = stop


class Disk:
    """What is durable, and what was done since. `files` lay on it, durable, at the beginning."""

    def __init__(self, files: Files) -> None:
        self._names = {name: Content(content, [], bytearray(content)) for name, content in files.items()}
        self._durable_names = dict(self._names)
        self._renamed: list[tuple[str, Content | None]] = []

    @property
    def certain(self) -> bool:
        """Whether everything is synced."""
        return not self._renamed and not any(content.pending for content in self._names.values())

    def do(self, operation: Operation) -> None:
        """The next operation."""
        match operation:
            case Write(file) | Truncate(file):
                self._names[file].do(operation)
            case Sync(file):
                self._names[file].sync()
            case Create(file):
                self._names[file] = Content()
                self._renamed.append((file, self._names[file]))
            case Delete(file):
                del self._names[file]
                self._renamed.append((file, None))
            case SyncDirectory():
                self._durable_names, self._renamed = dict(self._names), []

    def after_a_power_cut(self, fate: Fate) -> Files:
        """What is found on it."""
        names: dict[str, Content | None] = dict(self._durable_names)
        throws = Random(f"{fate} names {len(self._renamed)}")
        names |= [
            change
            for change in self._renamed
            if fate is Cut.EVERYTHING or (fate is not Cut.NOTHING and throws.random() < 0.5)
        ]
        return {name: content.after(name, fate) for name, content in names.items() if content is not None}


@dataclass(frozen=True, slots=True)
class CrashState:
    """A disk after a power cut behind `operation` (an index), with `acknowledged` as the last promised head."""

    operation: int
    fate: Fate
    files: Files
    acknowledged: int


def crash_states(operations: list[Operation], before: Files, seeds: Sequence[int]) -> Iterator[CrashState]:
    """The disk at every crash point: with nothing, everything, and for each seed a random half of what was not synced.

    `before` lay on it at the beginning. Where everything is synced there is one state, else two and one a seed."""
    disk, acknowledged = Disk(before), 0
    for index, operation in enumerate(operations):
        disk.do(operation)
        if isinstance(operation, Acknowledged):
            acknowledged = operation.head
        for fate in (Cut.NOTHING,) if disk.certain else (*Cut, *seeds):
            yield CrashState(index, fate, disk.after_a_power_cut(fate), acknowledged)
