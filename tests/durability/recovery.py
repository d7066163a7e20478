"""After a power cut: the real recovery on what the disk has, and what must hold then."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from eventstore import rows as sql
from eventstore.database import Opened, open_database
from eventstore.envelope import Recorded, RecordedEvent
from eventstore.errors import LogError
from eventstore.reader import ALL, Reader
from eventstore.verify import verify
from gateway.exchange.runs import run_of
from tests.durability.disk import CrashState, Files, crash_states
from tests.durability.history import TABLES, History
from tests.projections.ledger import Ledger
from tests.projections.projection_conformance import View, fold


class Recovery:
    """Judges disks after a cut of one history. `states` and `disks` count what was judged, and how many differed."""

    def __init__(self, history: History, folder: Path) -> None:
        self._history, self._folder = history, folder
        self._logs: dict[frozenset[tuple[str, bytes]], int | str] = {}
        self._views: dict[tuple[int, frozenset[tuple[str, bytes]]], bool] = {}
        self._rebuilt: dict[int, View] = {}
        self._unsound = next((f"verify: {found}" for found in verify(history.rows, run_of)), None)
        self.states = 0

    @property
    def disks(self) -> int:
        """Different disks among the states."""
        return len(self._views)

    def wrongs(self, seeds: Sequence[int]) -> Iterator[str]:
        """Every broken promise in every state, in words."""
        for segment in self._history.segments:
            for state in crash_states(segment.operations, segment.before, seeds):
                self.states += 1
                wrong = self._wrong(state, max(state.acknowledged, segment.acknowledged))
                if wrong:
                    yield f"operation {state.operation}, {state.fate}: {wrong}"

    def _wrong(self, state: CrashState, acknowledged: int) -> str | None:
        log, projected = _part(state.files, "events"), _part(state.files, "projections")
        if log not in self._logs:
            self._logs[log] = self._recover_log(dict(log))
        head = self._logs[log]
        if isinstance(head, str):
            return head
        if head < acknowledged:
            return f"position {acknowledged} was acknowledged, {head} is the last one"
        if (head, projected) not in self._views:
            self._views[head, projected] = self._recover_projections(dict(projected), head)
        return None if self._views[head, projected] else "the projections are not what a rebuild gives"

    def _recover_log(self, files: Files) -> int | str:
        """The head of the log that the server would go on from, or what is wrong with it."""
        self._put(files)
        try:
            opened = open_database(self._folder / sql.FILE, "power")
            opened.connection.close()
            with Reader(self._folder) as reader:
                rows = reader.read(0, ALL)
        except LogError as error:
            return f"the log does not open: {error}"
        if opened.warnings:
            return f"what a power cut tore is taken for damage: {opened.warnings}"
        return self._unsound or _misfit(rows, opened, self._history.rows) or len(rows)

    def _recover_projections(self, files: Files, head: int) -> bool:
        """Whether the projections found, led on to the head, are those that a rebuild makes."""
        source = Ledger()
        source.rows = self._history.rows[:head]
        if head not in self._rebuilt:
            self._put({})
            self._rebuilt[head] = fold(self._folder, source, TABLES)
        self._put(files)
        return fold(self._folder, source, TABLES) == self._rebuilt[head]

    def _put(self, files: Files) -> None:
        """A folder with these files and nothing else."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        for name, content in files.items():
            (self._folder / name).write_bytes(content)


def _part(files: Files, prefix: str) -> frozenset[tuple[str, bytes]]:
    return frozenset((name, content) for name, content in files.items() if name.startswith(prefix))


def _misfit(rows: Sequence[Recorded], opened: Opened, history: Sequence[Recorded]) -> str | None:
    """How a recovered log differs from the beginning of the history."""
    if rows != history[: len(rows)]:
        return "the rows are not the first ones that were written"
    last = next((row for row in reversed(rows) if isinstance(row, RecordedEvent)), None)
    cited = last and {"origin": last.origin, "oseq": last.oseq, "digest": last.digest.hex()}
    if opened.previous != cited or opened.tail.position != len(rows):
        return f"the next incarnation would go on from {opened.previous} at {opened.tail.position}"
    return None
