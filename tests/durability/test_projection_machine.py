"""The projection engine against a plain fold: any batches, restarts, failures, second engines, and logs set back."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from eventstore.catalogue import Event
from eventstore.envelope import RecordedEvent
from projections import db
from projections.checkpoint import Checkpoint
from projections.engine import Engine
from projections.projection import Projection, Rows, Source
from tests.durability.conftest import IN_MEMORY
from tests.projections.ledger import Ledger
from tests.projections.projection_conformance import fold, view
from tests.projections.stories import answered, node_started, received, rejected, routed, started

HANDLED = frozenset({"request_received", "generation_started", "request_completed", "request_rejected"})


class Counts:
    """How many of each type: wrong at once where an event is folded twice, or not at all."""

    name: ClassVar[str] = "counts"
    version: ClassVar[int] = 1
    handles: ClassVar[frozenset[str]] = HANDLED

    def __init__(self) -> None:
        self.disk_full = False

    def create(self, rows: Rows) -> None:
        rows.execute("CREATE TABLE IF NOT EXISTS counts (type TEXT PRIMARY KEY, count INTEGER NOT NULL)")

    def truncate(self, rows: Rows) -> None:
        rows.execute("DROP TABLE IF EXISTS counts")

    def apply(self, events: Sequence[RecordedEvent], rows: Rows) -> None:
        for event in events:
            rows.execute("INSERT INTO counts VALUES (?, 1) ON CONFLICT DO UPDATE SET count = count + 1", (event.type,))
        if self.disk_full:
            raise OSError("no space left on device")


class Lines:
    """A line for each event, in two files."""

    name: ClassVar[str] = "lines"
    version: ClassVar[int] = 1
    handles: ClassVar[frozenset[str]] = HANDLED
    patterns: ClassVar[tuple[str, ...]] = ("*.lines",)

    def lines(
        self, events: Sequence[RecordedEvent], state: dict[str, Any], source: Source
    ) -> Sequence[tuple[str, bytes]]:
        state["lines"] = state.get("lines", 0) + len(events)
        return [(f"{event.position % 2}.lines", event.digest.hex().encode()) for event in events]


requests: dict[str, Callable[[str], list[Event]]] = {
    "answered": answered,
    "open": lambda name: [received(name), routed(name), started(name)],
    "rejected": lambda name: [rejected(name)],
    "restarted": lambda name: [node_started()],
}


class ProjectionMachine(RuleBasedStateMachine):
    """After every rule: what is projected is the fold of the events up to the checkpoint."""

    kind: type[Engine] = Engine

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=IN_MEMORY if IN_MEMORY.is_dir() else None))
        self.live = self.folder / "live"
        self.live.mkdir()
        self.numbers = count()
        self.counts = Counts()
        self.projections: tuple[Projection, ...] = (Lines(), self.counts)
        self.log = Ledger("n1i0")
        self.engine = self._open()

    def _open(self) -> Engine:
        return self.kind(self.live, self.log, self.projections)

    @rule(kinds=st.lists(st.sampled_from(sorted(requests)), min_size=1, max_size=4), frames=st.integers(0, 3))
    def record(self, kinds: list[str], frames: int) -> None:
        for kind in kinds:
            self.log.add(*requests[kind](f"r{next(self.numbers)}"))
        self.log.add_frames(frames)

    @rule(limit=st.integers(1, 12))
    def step(self, limit: int) -> None:
        self.engine.step(limit)

    @rule(limit=st.integers(1, 12))
    def step_of_another_process(self, limit: int) -> None:
        """As `abstractcore-replay rebuild` beside a server: both go on from where the database is."""
        other = self._open()
        other.step(limit)
        other.close()

    @rule(limit=st.integers(1, 12))
    def step_on_a_full_disk(self, limit: int) -> None:
        self.counts.disk_full = True
        before = self.engine.positions()
        try:
            self.engine.step(limit)
        except OSError:
            assert self.engine.positions() == before
        finally:
            self.counts.disk_full = False

    @rule(name=st.sampled_from(("counts", "lines")))
    def rebuild(self, name: str) -> None:
        self.engine.rebuild(name)

    @rule()
    def restart(self) -> None:
        self.engine.close()
        self.engine = self._open()

    @rule()
    def kill(self) -> None:
        """What lies in the folder at this moment is what a killed process leaves."""
        killed = self.folder / f"killed-{next(self.numbers)}"
        shutil.copytree(self.live, killed, ignore=shutil.ignore_patterns("*-shm"))
        self.engine.close()
        shutil.rmtree(self.live)
        killed.rename(self.live)
        self.engine = self._open()

    @precondition(lambda self: self.log.rows)
    @rule(lost=st.integers(1, 20))
    def set_the_log_back(self, lost: int) -> None:
        """A copy of earlier is restored and goes on otherwise, under a new incarnation as at every start."""
        self.engine.close()
        older = Ledger(f"n1i{next(self.numbers)}")
        older.rows, older.now = self.log.rows[:-lost], self.log.now
        self.log = older
        self.log.add(node_started(), rejected(f"r{next(self.numbers)}"))
        self.engine = self._open()

    @invariant()
    def it_is_the_fold(self) -> None:
        at = self.engine.positions()
        assert max(at.values()) <= self.log.head()
        assert self._counted() == Counter(event.type for event in self._handled(at["counts"]))
        lines = [event.digest.hex() for event in self._handled(at["lines"])]
        assert sorted(self._lines()) == sorted(lines)

    def _handled(self, until: int) -> list[RecordedEvent]:
        rows = self.log.rows[:until]
        return [row for row in rows if isinstance(row, RecordedEvent) and row.type in HANDLED]

    def _counted(self) -> dict[str, int]:
        with sqlite3.connect(self.live / db.NAME) as rows:
            found = dict(rows.execute("SELECT type, count FROM counts").fetchall())
        rows.close()
        return found

    def _lines(self) -> list[str]:
        """Up to the length that the checkpoint knows: what is behind it is a crash's, and will be cut."""
        with sqlite3.connect(self.live / db.NAME) as rows:
            lengths = rows.execute("SELECT file, length FROM projection_files").fetchall()
        rows.close()
        found = [(self.live / file).read_bytes()[:length] for file, length in lengths]
        return b"".join(found).decode().splitlines()

    @rule()
    def catch_up(self) -> None:
        """Led on to the head it is what a rebuild makes, to the byte. A file that a failed batch began, for an event
        that the log then lost, belongs to nobody; the next rebuild deletes it."""
        while self.engine.step():
            pass
        anew = self.folder / f"anew-{next(self.numbers)}"
        anew.mkdir()
        tables, files = view(self.live)
        known = {file for _, file, _ in tables["projection_files"]}
        assert (tables, {name: files[name] for name in known}) == fold(anew, self.log, self.projections)

    def teardown(self) -> None:
        self.engine.close()
        shutil.rmtree(self.folder)


CASES = settings(
    max_examples=200, stateful_step_count=20, deadline=None, database=None, derandomize=True,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
FIRST_FAILURE = settings(CASES, phases=[Phase.generate], report_multiple_bugs=False)


def test_projections_are_the_fold_of_the_log() -> None:
    run_state_machine_as_test(ProjectionMachine, settings=CASES)


@pytest.mark.soak
def test_projections_are_the_fold_of_the_log_at_length() -> None:
    run_state_machine_as_test(
        ProjectionMachine, settings=settings(CASES, max_examples=2_000, stateful_step_count=40, derandomize=False)
    )


class TakesAnyLog(Engine):
    """The bug: a log that was set back is taken for the one that the rows were made from."""

    def _log_holds(self, known: Checkpoint) -> bool:
        return True


class TakesAnyLogMachine(ProjectionMachine):
    kind = TakesAnyLog


class Rewrites(Engine):
    """The bug: nobody looks whether the checkpoint is where it was, and a failed batch keeps its rows."""

    def _fold(self, checkpoint: Checkpoint, events: Sequence[RecordedEvent], reached: int) -> None:
        super()._fold(checkpoint, events, reached)
        self._rows.execute("COMMIT")
        self._rows.execute("BEGIN")


class RewritesMachine(ProjectionMachine):
    kind = Rewrites


@pytest.mark.parametrize("machine", [TakesAnyLogMachine, RewritesMachine])
def test_a_bug_is_noticed(machine: type[ProjectionMachine]) -> None:
    with pytest.raises(AssertionError):
        run_state_machine_as_test(machine, settings=FIRST_FAILURE)


def test_a_log_set_back_into_frames_is_recognised(tmp_path: Path) -> None:
    """Found by the machine: events stood where the lost log had frames, behind the last event that was seen."""
    log = Ledger("n1i0")
    log.add(*answered("r1"))
    log.add_frames(2)
    fold(tmp_path, log, [Counts()])
    older = Ledger("n1i1")
    older.rows, older.now = log.rows[:-2], log.now
    older.add(rejected("r2"), rejected("r3"))
    tables, _ = fold(tmp_path, older, [Counts()])
    assert ("request_rejected", 2) in tables["counts"]
