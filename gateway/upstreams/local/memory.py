"""Whether this machine is short of memory."""

from __future__ import annotations

from pathlib import Path

MEMINFO = Path("/proc/meminfo")
LEAST = 0.05
"""The share of all memory below which what is available is too little."""


def short_of_memory(meminfo: Path = MEMINFO) -> bool:
    """By https://docs.kernel.org/filesystems/proc.html#meminfo; False where there is no such file (macOS, Windows)."""
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return False
    kilobytes = {
        name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines) if rest.split()
    }
    return kilobytes.get("MemAvailable", 1) < LEAST * kilobytes.get("MemTotal", 1)
