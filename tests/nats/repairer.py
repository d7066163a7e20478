"""Repairs a log and kills itself before a file gets a name: `python -m tests.nats.repairer DIRECTORY URL STEP`.

Killed at its STEP: `kept` (the first archived file's damaged form is to be kept), `between` (the second archived file
is to take its place), `last` (the archive is made good, and `events.db` is to take its place), or never."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from eventstore.lock import DirectoryLock
from replay.repair import repaired
from replay.repair_sources import ASIDE

STEPS = ("kept", "between", "last")


class Killer:
    """Hears of every name that a file gets, before it gets it."""

    def __init__(self, step: str) -> None:
        self._step, self._archived = step, 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("os.link", "os.rename"):
            target = Path(os.fsdecode(arguments[1]))
            if ASIDE not in target.parts and self._is_due(event, target):
                os.kill(os.getpid(), signal.SIGKILL)

    def _is_due(self, event: str, target: Path) -> bool:
        if event == "os.rename" and target.suffix == ".segment":
            self._archived += 1
        match self._step:
            case "kept":
                return event == "os.link"
            case "between":
                return self._archived == 2
            case _:
                return event == "os.rename" and target.name == "events.db"


def repair(data_dir: Path, url: str, step: str) -> None:
    sys.addaudithook(Killer(step))
    with DirectoryLock(data_dir):
        asyncio.run(repaired(data_dir, url))


if __name__ == "__main__":
    repair(Path(sys.argv[1]), *sys.argv[2:])
