"""System calls that fail when they are told to: strace starts a process and answers some of its calls itself."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.serverprocess import ROOT

STRACE = shutil.which("strace")
FILES = ("events.db", "events.db-wal")
WITHIN_S = 180.0
"""A harness's limit, so that a failure ends; no test is about it."""


@dataclass(frozen=True)
class Fault:
    """What happens to calls on the log's files: `call`s numbered `when` (of each thread: `7`, `7..9`, `7+`) do `what`,
    such as `error=EIO`."""

    call: str
    what: str
    when: str

    def __str__(self) -> str:
        return f"{self.call}:{self.what}:when={self.when}"


@dataclass(frozen=True)
class Ended:
    """What a process said, how it ended, and how often it was failed."""

    exit_code: int
    said: str
    injected: int

    def named(self, word: str) -> list[str]:
        """What followed the word in each line that begins with it."""
        return [line.removeprefix(word).strip() for line in self.said.splitlines() if line.split(" ")[0] == word]


def under(fault: Fault, data_dir: Path, trace: Path) -> list[str]:
    """The beginning of a command line that runs the rest with a fault."""
    assert STRACE is not None
    paths = [option for name in FILES for option in ("-P", str(data_dir / name))]
    return [
        STRACE,
        "-f",
        "--seccomp-bpf",
        "-o",
        str(trace),
        "-e",
        f"trace={fault.call}",
        "-e",
        f"inject={fault}",
        *paths,
    ]


async def run(fault: Fault, data_dir: Path, module: str, *arguments: str) -> Ended:
    """Run a module of ours to its end."""
    trace = data_dir.with_name(f"{data_dir.name}.trace")
    command = [*under(fault, data_dir, trace), sys.executable, "-m", module, str(data_dir), *arguments]
    exit_code, said = await finished(command, {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)})
    return Ended(exit_code, said, sum(map(trace.read_text().count, ("(INJECTED)", "(DELAYED)"))))


async def finished(command: Sequence[str], env: Mapping[str, str]) -> tuple[int, str]:
    """Exit code and standard output. Kills it where it does not end."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT, env=env)
    try:
        async with asyncio.timeout(WITHIN_S):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        raise
    assert process.returncode is not None
    return process.returncode, said.decode()
