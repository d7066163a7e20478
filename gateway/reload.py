"""`--reload`: the server as a child process that ends and starts again whenever a source file changes.

For work on the server itself. It ends in order, so running answers get their time first; and it dies with us.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from gateway import tethered

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("eventstore", "projections", "gateway", "replay")
SUFFIXES = frozenset({".py", ".sql"})
LOOK_S = 0.5

Seen = Mapping[Path, int]
"""Source file -> when it was changed, in nanoseconds."""


def without_flag(argv: Sequence[str]) -> list[str]:
    """The command line of the child: `--reload` is ours, as is what argparse takes for it."""
    return [word for word in argv if not (word.startswith("--rel") and "--reload".startswith(word))]


class Reloader:
    """Runs a command, and runs it again after every change of a source file. A command that ended by itself (a mistake
    in the source, say) is started again after the next change."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._ended = threading.Event()

    def run(self) -> int:
        """Until SIGINT or SIGTERM, which end the child too; its last exit code."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._end)
        seen, child = sources(ROOT), self._start()
        while not self._ended.wait(LOOK_S):
            if (found := sources(ROOT)) != seen:
                seen = found
                _stop(child)
                child = self._start()
        return _stop(child)

    def _start(self) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C reaches it through us, once.
        tied = [sys.executable, "-I", "-S", tethered.__file__, str(os.getpid()), *self._command]
        return subprocess.Popen(tied, start_new_session=True)  # noqa: S603  the command that started us

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._ended.set()


def sources(root: Path) -> Seen:
    """Every source file of the packages."""
    found = {}
    for path in (path for package in PACKAGES for path in (root / package).rglob("*") if path.suffix in SUFFIXES):
        try:
            found[path] = path.stat().st_mtime_ns
        except FileNotFoundError:  # an editor is writing it anew
            continue
    return found


def _stop(child: subprocess.Popen[bytes]) -> int:
    child.terminate()
    return child.wait()
