"""Taking in an earlier incarnation's end, whatever way it comes: in pieces, twice, out of order, with crashes between.

The model is one line: of each origin the log holds a prefix, and the prefix only grows, up to all there is.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from eventstore.envelope import RecordedEvent, RecordedFrames
from eventstore.errors import LogError
from eventstore.ingest import Intake, PulledEvent, PulledFrames, Taken
from eventstore.reader import Reader
from eventstore.rows import FILE
from eventstore.sqlite import SQLiteLog
from eventstore.verify import verify
from eventstore.writer import Writer
from tests.eventstore.builders import happened, record_run, run_of, write

T = TypeVar("T")


class Undedupped(Intake):
    """Deliberate bug: does not look whether it has the event, or the frames."""

    def _is_repeated(self, event: PulledEvent) -> bool:
        return False

    def _follows(self, event: PulledEvent, oseq: int, digest: bytes) -> bool:
        return True

    def _is_due(self, row: PulledFrames, due: int) -> bool:
        return True


class Unchained(Intake):
    """Deliberate bug: takes an event's place in its chain on trust."""

    def _follows(self, event: PulledEvent, oseq: int, digest: bytes) -> bool:
        return event.oseq == oseq + 1


def log_with(broken: type[Intake]) -> type[SQLiteLog]:
    """A log that takes events in so."""

    class Broken(Writer):
        intake = broken

    class BrokenLog(SQLiteLog):
        writer = Broken

    return BrokenLog


async def history(data_dir: Path) -> tuple[int, list[PulledEvent]]:
    """Two incarnations, the first copied away (to `copy`) in the midst of a run: how many events the copy has, and all
    events with the frames before them, in the order in which they were written."""
    log = await SQLiteLog.open(data_dir, durability="process")
    await log.append(write("request-a", 0, happened(n=1)))
    await record_run(log, "run-a", b"x", b"y")
    await log.close()
    shutil.copytree(data_dir, data_dir.with_name("copy"))
    for n in range(2):
        log = await SQLiteLog.open(data_dir, durability="process")
        await log.append(write(f"node-{n}", 0, happened()))
        await log.append(write("request-a", 1 + n, happened(n=n)))
        await record_run(log, f"run-{n}", b"one", b"two", b"three")
        await log.close()
    with Reader(data_dir) as reader:
        return 3, as_pulled(list(reader.rows()))


def as_pulled(rows: Sequence[RecordedEvent | RecordedFrames]) -> list[PulledEvent]:
    """What another copy would give back for these rows."""
    pulled: list[PulledEvent] = []
    opened: dict[int, tuple[str, int]] = {}
    waiting: list[PulledFrames] = []
    for row in rows:
        if isinstance(row, RecordedEvent):
            opened[row.position] = row.origin, row.oseq
            pulled.append(PulledEvent(row.origin, row.oseq, row.data, row.digest, before=tuple(waiting)))
            waiting.clear()
        else:
            waiting.append(
                PulledFrames(*opened[row.generation], row.frame, row.count, row.offset_us, row.codec, row.bytes)
            )
    return pulled


class IngestMachine(RuleBasedStateMachine):
    """The log against the model. `kind` is the log's class."""

    kind: type[SQLiteLog] = SQLiteLog
    template: Path
    everything: list[PulledEvent]

    @initialize()
    def open(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._directory = Path(tempfile.mkdtemp())
        self._data_dir = self._directory / "data"
        shutil.copytree(self.template, self._data_dir)
        self._log = self._do(self.kind.open(self._data_dir, durability="process"))
        self._own = 0
        self._reached = 3

    @rule(first=st.integers(0, 14), count=st.integers(1, 15))
    def offer(self, first: int, count: int) -> None:
        """A piece: perhaps again (rewind, duplicate), perhaps too early."""
        self._take(self.everything[first : first + count])

    @rule(seed=st.integers(0, 1000))
    def offer_reordered(self, seed: int) -> None:
        shuffled = list(self.everything)
        random.Random(seed).shuffle(shuffled)
        self._take(shuffled)

    @rule(index=st.integers(3, 6), number=st.integers(0, 7))
    def offer_forged(self, index: int, number: int) -> None:
        event = self.everything[index]
        forged = event.data[:-1] + b',"forged":%d}' % number
        before = self._rows()
        taken = self._take([replace_data(event, forged)])
        assert not taken.events
        assert self._rows() == before

    @rule()
    def append(self) -> None:
        """The incarnation that runs writes between."""
        self._own += 1
        self._do(self._append())

    @rule()
    def crash(self) -> None:
        """Another incarnation takes up what lies in the files at this moment."""
        killed, self._data_dir = self._data_dir, self._directory / f"after-{self._data_dir.name}"
        self._data_dir.mkdir()
        for file in (FILE, f"{FILE}-wal"):
            if (killed / file).exists():
                shutil.copyfile(killed / file, self._data_dir / file)
        self._do(self._log.close())
        self._log = self._do(self.kind.open(self._data_dir, durability="process"))

    @invariant()
    def each_origin_is_a_prefix(self) -> None:
        rows = self._rows()
        assert list(verify(rows, run_of)) == []
        held = as_pulled([row for row in rows if not self._is_own(row)])
        assert sorted(held, key=_place) == sorted(self._prefixes(held), key=_place), (
            "not byte for byte what was written"
        )

    def teardown(self) -> None:
        try:
            self._take(self.everything)
            held = as_pulled([row for row in self._rows() if not self._is_own(row)])
            assert sorted(held, key=_place) == sorted(self.everything, key=_place), "not all of it came back"
        finally:
            self._do(self._log.close())
            self._loop.close()
            shutil.rmtree(self._directory)

    def _prefixes(self, held: Sequence[PulledEvent]) -> list[PulledEvent]:
        reached = {origin: max(e.oseq for e in held if e.origin == origin) for origin in {e.origin for e in held}}
        return [event for event in self.everything if event.oseq <= reached.get(event.origin, 0)]

    def _is_own(self, row: RecordedEvent | RecordedFrames) -> bool:
        return isinstance(row, RecordedEvent) and row.origin not in {event.origin for event in self.everything}

    def _take(self, events: Sequence[PulledEvent]) -> Taken:
        return self._do(_ingested(self._log, events))

    async def _append(self) -> None:
        await self._log.append(write(f"request-own-{self._own}", 0))

    def _rows(self) -> list[RecordedEvent | RecordedFrames]:
        return self._do(self._log.read(0, 1 << 30))

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)


def replace_data(event: PulledEvent, data: bytes) -> PulledEvent:
    return PulledEvent(event.origin, event.oseq, data, event.digest)


def _place(event: PulledEvent) -> tuple[str, int]:
    return event.origin, event.oseq


async def _ingested(log: SQLiteLog, events: Sequence[PulledEvent]) -> Taken:
    return await log.ingest(events)


def explore(tmp_path: Path, kind: type[SQLiteLog], examples: int, anew: bool = False) -> None:
    """Search for a history that the machine does not survive; `anew`: among others each time."""
    _, everything = asyncio.run(history(tmp_path / "whole"))

    class Machine(IngestMachine):
        pass

    Machine.kind, Machine.template, Machine.everything = kind, tmp_path / "copy", everything
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples, stateful_step_count=6, deadline=None, database=None, derandomize=not anew,
            suppress_health_check=list(HealthCheck), phases=[Phase.generate], report_multiple_bugs=False,
        ),
    )  # fmt: skip


def test_the_end_comes_back_once_and_in_order(tmp_path: Path) -> None:
    explore(tmp_path, SQLiteLog, 200)


@pytest.mark.soak
def test_the_end_comes_back_once_and_in_order_at_length(tmp_path: Path) -> None:
    explore(tmp_path, SQLiteLog, 3_000, anew=True)


@pytest.mark.parametrize("broken", [Undedupped, Unchained])
def test_a_log_that_does_not_look_is_noticed(tmp_path: Path, broken: type[Intake]) -> None:
    with pytest.raises((AssertionError, LogError)):
        explore(tmp_path, log_with(broken), 60)
