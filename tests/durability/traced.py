"""What a process does to the files of a folder, as strace tells it: the operations of `tree.py`, in their order."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.durability.disk import Create, Delete, Sync, Truncate, Write
from tests.durability.tree import END, Link, MakeFolder, Operation, Rename
from tests.faults.strace import STRACE, finished
from tests.serverprocess import ROOT

CALLS = (
    "openat,open,creat,close,write,pwrite64,lseek,ftruncate,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,"
    "link,linkat,mkdir,mkdirat,rmdir"
)
UNSEEN = ("-shm", "ballast", ".lock")
"""No reboot keeps the shared memory; the rest holds nothing."""
_LINE = re.compile(r"^(\d+) +(\w+)\((.*)\) += (-?\d+)(?:<(.*)>)?(?: .*)?$")
_UNFINISHED = re.compile(r"^(\d+) +(\w+\(.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. \w+ resumed>(.*)$")
_HEX = re.compile(r"\\x([0-9a-f]{2})")


async def record(folder: Path, module: str, *arguments: str) -> list[Operation]:
    """Run a module of ours to its end; what it did in the folder, which it is told first."""
    trace = folder.with_name(f"{folder.name}.trace")
    how = ["-f", "--seccomp-bpf", "-y", "-xx", "-s", str(1 << 24), "-e", f"trace={CALLS}", "-o", str(trace)]
    command = [str(STRACE), *how, sys.executable, "-m", module, str(folder), *arguments]
    exit_code, said = await finished(command, {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)})
    assert exit_code == 0, said
    with trace.open() as lines:
        return list(Told(folder).operations(lines))


class Told:
    """Reads a trace of one process. Paths are those under `folder`; all others are nobody's business."""

    def __init__(self, folder: Path) -> None:
        self._folder = f"{folder}/"
        self._offsets: dict[str, int] = {}
        """Of descriptors that are written on and on."""

    def operations(self, lines: Iterator[str]) -> Iterator[Operation]:
        """In the order in which the calls were done."""
        for call, arguments, result, opened in _calls(lines):
            if result >= 0:
                yield from self._done(call, arguments, result, opened)

    def _done(self, call: str, given: list[str], result: int, opened: str) -> Iterator[Operation]:
        if call in ("openat", "open", "creat"):
            yield from self._opened(given, result, opened)
        elif call in ("mkdir", "mkdirat"):
            yield from (MakeFolder(name) for name in self._named(given[-2]))
        elif call in ("unlink", "rmdir"):
            yield from (Delete(name) for name in self._named(given[0]))
        elif call == "unlinkat":
            yield from (Delete(name) for name in self._named(given[1], given[0]))
        elif call in ("rename", "link"):
            yield from self._twice(call, given[0], given[1])
        elif call in ("renameat", "renameat2", "linkat"):
            yield from self._twice(call, given[1], given[3])
        else:
            yield from self._through(call, given, result)

    def _opened(self, given: list[str], result: int, path: str) -> Iterator[Operation]:
        flags = next((each for each in given if each.startswith("O_")), "")
        self._offsets[str(result)] = END if "O_APPEND" in flags else 0
        for name in self._under(_decoded(path)):
            if "O_CREAT" in flags:
                yield Create(name)
            if "O_TRUNC" in flags:
                yield Truncate(name, 0)

    def _through(self, call: str, given: list[str], result: int) -> Iterator[Operation]:
        """A call on a descriptor."""
        descriptor, _, path = given[0].partition("<")
        path, _, deleted = path.partition(">")
        for name in self._under(_decoded(path)) if not deleted else ():
            if call in ("fsync", "fdatasync"):
                yield Sync(name)
            elif call == "ftruncate":
                yield Truncate(name, int(given[1]))
            elif call == "pwrite64":
                yield Write(name, int(given[3]), _bytes(given[1])[:result])
            elif call == "lseek":
                self._offsets[descriptor] = result
            elif call == "write":
                at = self._offsets.get(descriptor, 0)
                self._offsets[descriptor] = at if at == END else at + result
                yield Write(name, at, _bytes(given[1])[:result])

    def _twice(self, call: str, old: str, new: str) -> Iterator[Operation]:
        kind = Rename if call.startswith("rename") else Link
        yield from (kind(one, other) for one in self._named(old) for other in self._named(new))

    def _named(self, path: str, folder: str = "") -> Iterator[str]:
        above = _decoded(folder.partition("<")[2].rstrip(">"))
        return self._under(str(Path(above, _decoded(path.strip('"')))))

    def _under(self, path: str) -> Iterator[str]:
        name = f"{path}/" if f"{path}/" == self._folder else path
        if name.startswith(self._folder) and not name.endswith(UNSEEN):
            yield name.removeprefix(self._folder)


def _calls(lines: Iterator[str]) -> Iterator[tuple[str, list[str], int, str]]:
    """Name, arguments, result and, of an opened file, the path. A call that others came into is done where it ends."""
    begun: dict[str, str] = {}
    for line in lines:
        if found := _UNFINISHED.match(line):
            begun[found[1]] = found[2]
        elif found := _RESUMED.match(line):
            line = f"{found[1]} {begun.pop(found[1])}{found[2]}"
        if found := _LINE.match(line):
            yield found[2], found[3].split(", "), int(found[4]), found[5] or ""


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.strip('"').replace("\\x", ""))


def _decoded(text: str) -> str:
    return os.fsdecode(bytes.fromhex(text.replace("\\x", ""))) if _HEX.match(text) else text
