"""The log by itself: rows appended, read and verified a second, and ledger events folded again; bytes on the disk."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from eventstore.lock import DirectoryLock
from eventstore.reader import Reader
from eventstore.verify import verify
from gateway.exchange.runs import run_of
from projections.registry import REGISTRY
from replay.rebuild import rebuild_here
from tests.benchmarks.archive_size import kinds, measured
from tests.benchmarks.bench_append import round_of
from tests.benchmarks.figures import Figure, Goal, Measuring
from tests.benchmarks.fill import fill
from tests.benchmarks.sizes import Sizes

STORAGE_TITLE = "The log: appended, read, verified, folded again"
DISK_TITLE = "Bytes on the disk per token"
PRODUCERS = ((1, 1), (10, 1), (100, 1), (100, 8))
"""So many, each with so many frames an append."""
GOAL_PRODUCERS = (100, 8)
APPENDED, VERIFIED, REBUILT = 150_000, 200_000, 20_000
"""Rows, rows and ledger events a second that are the goals."""
LIVE, ARCHIVED = 40, 10
"""Most bytes per token."""


async def run_storage(sizes: Sizes, folder: Path, measuring: Measuring) -> None:
    """Appending into new logs; the rest on one log of real exchanges."""
    for producers in PRODUCERS:
        await _append(sizes, folder, producers, measuring)
    data_dir = folder / "logs"
    await fill(data_dir, sizes.storage_rows)
    with Reader(data_dir) as reader:
        rows = reader.head()
        events = sum(1 for _ in reader.rows(frames=False))
        again = Repeated(sizes.rounds, measuring)
        again.measure(f"rows read, of {rows:,}", "the log", rows, "rows", lambda: sum(1 for _ in reader.rows()))
        what = f"chains and frames verified, of {rows:,} rows"
        again.measure(what, "the log", rows, "rows", lambda: _sound(reader), VERIFIED)
        what = f"all projections rebuilt, of {events:,} ledger events"
        again.measure(what, "projections", events, "events", lambda: _rebuild(data_dir, reader), REBUILT)


@dataclass(frozen=True)
class Repeated:
    """The same work over, so many rounds."""

    rounds: int
    measuring: Measuring

    def measure(
        self, what: str, of: str, count: int, unit: str, work: Callable[[], object], least: int | None = None
    ) -> None:
        """How many `unit` a second, of `count`, and processor time for each: a busy machine changes that little."""
        each = [took(work) for _ in range(self.rounds)]
        rate = statistics.median(count / took.seconds for took in each)
        goal = None if least is None else Goal.at_least(rate, least, f" {unit}/s")
        self.measuring.take(Figure(what, of, rate, f"{unit}/s", goal=goal))
        cpu = statistics.median(took.cpu for took in each) / count * 1e6
        self.measuring.take(Figure(f"processor time each: {what}", of, cpu, "us"))


async def _append(sizes: Sizes, folder: Path, producers: tuple[int, int], measuring: Measuring) -> None:
    done = [await round_of(*producers, sizes.seconds, folder) for _ in range(sizes.rounds)]
    number, frames_each = producers
    what = f"{number} producers, {frames_each} frames an append"
    rows = statistics.median(each.rows_per_second for each in done)
    goal = Goal.at_least(rows, APPENDED, " rows/s") if producers == GOAL_PRODUCERS else None
    measuring.take(Figure(f"rows appended: {what}", "the log", rows, "rows/s", goal=goal))
    cpu = statistics.median(each.cpu_us for each in done)
    measuring.take(Figure(f"processor time each, the producers' too: {what}", "the log", cpu, "us"))
    for kind in ("p50_ms", "p99_ms"):
        wait = statistics.median(getattr(each, kind) for each in done)
        measuring.take(Figure(f"wait for the disk, {kind.removesuffix('_ms')}: {what}", "the log", wait, "ms"))


@dataclass(frozen=True)
class Took:
    """Seconds by the clock, and of this process."""

    seconds: float
    cpu: float


def took(work: Callable[[], object]) -> Took:
    """How long it takes."""
    began, cpu = time.perf_counter(), time.process_time()
    work()
    return Took(time.perf_counter() - began, time.process_time() - cpu)


def _sound(reader: Reader) -> None:
    findings = list(verify(reader.rows(), run_of))
    assert not findings, findings[:3]


def _rebuild(data_dir: Path, reader: Reader) -> None:
    with DirectoryLock(data_dir):
        done = rebuild_here(data_dir, reader, [projection.name for projection in REGISTRY])
    halted = [name for name, state in done["projections"].items() if state.get("halted")]
    assert not halted, halted


async def run_disk(sizes: Sizes, folder: Path, measuring: Measuring) -> None:
    """Answers of words as frequent as words are; see archive_size.py."""
    for what in kinds(sizes.archived_answers):
        found = await asyncio.to_thread(measured, what, folder)
        live, archived = Goal.at_most(found.live, LIVE, " bytes"), Goal.at_most(found.archived, ARCHIVED, " bytes")
        measuring.take(Figure(f"live events.db: {what}", "the log", found.live, "bytes", goal=live))
        measuring.take(Figure(f"archived: {what}", "the log", found.archived, "bytes", goal=archived))
        measuring.take(Figure(f"stays in events.db: {what}", "the log", found.stays, "bytes"))
