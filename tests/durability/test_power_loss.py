"""The power is cut at every write of the log and its projections: what was acknowledged is there, and all fits.

Bugs put in on purpose show that the harness would see them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from eventstore.batch import Waiting
from eventstore.envelope import RecordedEvent
from projections import checkpoint as checkpoints
from projections.checkpoint import Checkpoint
from tests.durability.disk import (
    Acknowledged,
    Create,
    Cut,
    Delete,
    Disk,
    Operation,
    Sync,
    SyncDirectory,
    Truncate,
    Write,
)
from tests.durability.history import HurriedWriter, Kind, RecordedEngine, record
from tests.durability.recovery import Recovery


class AcknowledgesFirst(HurriedWriter):
    """The bug: done is said before it is so."""

    def _handle(self, waiting: list[Waiting]) -> None:
        batch = self._stage(waiting, trusting=False)
        self._loop.call_soon_threadsafe(self._committed, waiting, batch.position)
        self._commit(waiting)


class CheckpointsApart(RecordedEngine):
    """The bug: the rows are committed, and then how far they go."""

    def _fold(self, checkpoint: Checkpoint, events: Sequence[RecordedEvent], reached: int) -> None:
        projection = self._projections[checkpoint.name]
        self._apply(projection, [event for event in events if event.type in projection.handles], checkpoint)
        self._rows.execute("COMMIT")
        self._rows.execute("BEGIN IMMEDIATE")
        checkpoints.advance(self._rows, checkpoint, reached, events[-1] if events else None)


@pytest.mark.parametrize(
    ("seed", "states"), [(1, 3_600), *(pytest.param(seed, 3_000, marks=pytest.mark.soak) for seed in range(2, 12))]
)
def test_a_power_cut_at_any_moment_loses_nothing_that_was_acknowledged(folder: Path, seed: int, states: int) -> None:
    recovery = Recovery(record(folder / "life", Kind(), seed), folder / "found")
    assert list(recovery.wrongs(seeds=[seed, -seed])) == []
    print(f"{recovery.states} crash states, {recovery.disks} different")
    assert recovery.states >= states


BUGS = {
    "synchronous=NORMAL": (Kind(durability="process"), "was acknowledged"),
    "acknowledged before the commit": (Kind(writer=AcknowledgesFirst), "was acknowledged"),
    "checkpoint outside the transaction": (Kind(engine=CheckpointsApart), "not what a rebuild gives"),
}


@pytest.mark.parametrize(("kind", "words"), BUGS.values(), ids=BUGS)
def test_a_bug_is_noticed(folder: Path, kind: Kind, words: str) -> None:
    recovery = Recovery(record(folder / "life", kind, 1), folder / "found")
    assert words in next(recovery.wrongs(seeds=[]), "nothing")


@pytest.mark.soak
@pytest.mark.parametrize(("kind", "words"), BUGS.values(), ids=BUGS)
def test_how_many_states_a_bug_makes_wrong(folder: Path, kind: Kind, words: str) -> None:
    """`pytest -m soak -s tests/durability/test_power_loss.py -k how_many` counts them, for the README's figures."""
    recovery = Recovery(record(folder / "life", kind, 1), folder / "found")
    wrong = sum(words in found for found in recovery.wrongs(seeds=[1, -1]))
    print(f"{words}: {wrong} of {recovery.states} crash states")
    assert wrong


def disk_after(*operations: Operation) -> Disk:
    disk = Disk({"a": b"old"})
    for operation in operations:
        disk.do(operation)
    return disk


def test_the_disk_keeps_what_was_synced_and_nothing_else_for_certain() -> None:
    disk = disk_after(Write("a", 0, b"new"), Sync("a"), Write("a", 1, b"ewer"), Truncate("a", 4))
    assert disk.after_a_power_cut(Cut.NOTHING) == {"a": b"new"}
    assert disk.after_a_power_cut(Cut.EVERYTHING) == {"a": b"newe"}
    assert {disk.after_a_power_cut(seed)["a"] for seed in range(50)} == {b"new", b"newer", b"newe"}


def test_the_disk_tears_writes_at_sectors() -> None:
    disk = disk_after(Write("a", 500, b"x" * 24))
    found = {disk.after_a_power_cut(seed)["a"] for seed in range(50)}
    gap = bytes(497)
    assert found == {b"old", b"old" + gap + b"x" * 12, b"old" + gap + bytes(12) + b"x" * 12, b"old" + gap + b"x" * 24}


def test_the_disk_forgets_names_until_the_directory_is_synced() -> None:
    made = (Create("b"), Write("b", 0, b"b"), Sync("b"), Delete("a"))
    assert disk_after(*made).after_a_power_cut(Cut.NOTHING) == {"a": b"old"}
    assert disk_after(*made, SyncDirectory()).after_a_power_cut(Cut.NOTHING) == {"b": b"b"}
    assert not disk_after(*made).certain
    assert disk_after(*made, SyncDirectory(), Acknowledged(1)).certain
