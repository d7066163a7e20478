"""Where processes run and what they cost, as Linux tells it in /proc; and on what machine that was."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PROC = Path("/proc")
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@cache
def cores() -> tuple[set[int], set[int]]:
    """One core for the server that is measured, the others for all else; of a single core, that one for both. As it
    was when first asked: later this process keeps to the others itself."""
    usable = sorted(os.sched_getaffinity(0))
    return {usable[-1]}, set(usable[:-1]) or {usable[-1]}


def pin(pid: int, where: set[int]) -> None:
    """Keep all present threads of a process on these cores; later ones inherit it."""
    for thread in (PROC / str(pid) / "task").iterdir():
        os.sched_setaffinity(int(thread.name), where)


def cpu_s(pid: int) -> float:
    """Processor time of a process so far, user and system, of all its threads. Zero where it is gone."""
    try:
        user, system = _stat(pid)[11:13]
    except FileNotFoundError:
        return 0.0
    return (int(user) + int(system)) * TICK_S


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in use now (`VmRSS`)."""
    status = (PROC / str(pid) / "status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def descendants(pid: int) -> Iterator[int]:
    """The processes that a process started, and those that they did."""
    for child in _children(pid):
        yield child
        yield from descendants(child)


def _children(pid: int) -> list[int]:
    children = PROC / str(pid) / "task"
    return [int(each) for path in children.glob("*/children") for each in path.read_text().split()]


def _stat(pid: int) -> list[str]:
    """The fields after the command's name, which may hold anything (proc(5))."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def description(directory: Path) -> str:
    """The machine in a line."""
    return (
        f"{os.cpu_count()} cores ({_model()}), {platform.system()} {platform.release()}, Python "
        f"{platform.python_version()}, SQLite {sqlite3.sqlite_version}, log on {_file_system(directory)}, "
        f"load average at the start {os.getloadavg()[0]:.2f}"
    )


def _model() -> str:
    for line in (PROC / "cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return " ".join(line.partition(":")[2].split())
    return platform.machine()


def _file_system(directory: Path) -> str:
    """The type of the one mounted nearest above: on tmpfs a sync costs nothing."""
    mounts = [line.split()[1:3] for line in (PROC / "mounts").read_text().splitlines()]
    above = [(len(at), kind) for at, kind in mounts if directory.resolve().is_relative_to(at)]
    return max(above)[1]
