"""Rows appended a second and the time until one is durable: `python -m tests.benchmarks.bench_append [seconds]`.

Producers play streamed answers: three ledger events to open one, 76 frames a row each, one event to close it
(95 % frames), every append awaited. The last line appends the same frames eight to an append, as a fast upstream does.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import uvloop

from eventstore.envelope import NewEvent, NewFrames, RecordedEvent, StreamWrite
from eventstore.frames import FrameRun, Template
from eventstore.reader import Reader
from eventstore.sqlite import SQLiteLog
from eventstore.verify import RunClosed, RunOpened, verify

FIELDS = b'{"request_id":"01kaj3t5g0c9q7m2x4v8","provider":"demo","model":"echo","text":"' + b"x" * 300 + b'"}'
OPENING = tuple(NewEvent(type_, 1, FIELDS) for type_ in ("request_received", "route_selected", "generation_started"))
ENDS = Template(b'data: {"choices":[{"index":0,"delta":{"content":"', b'"}}]}')
TOKEN = ENDS.prefix + b" token" + ENDS.suffix
FRAMES = 76


class Measured:
    """What the producers of one round did."""

    def __init__(self, seconds: float) -> None:
        self.until = time.perf_counter() + seconds
        self.rows = 0
        self.waits: list[float] = []

    async def wait(self, log: SQLiteLog, rows: list[NewFrames]) -> None:
        started = time.perf_counter()
        await log.append(frames=rows)
        self.waits.append(time.perf_counter() - started)


def closing(run: FrameRun) -> NewEvent:
    bound = b'{"frames":%d,"frames_digest":"%b",' % (run.count, run.digest.encode())
    return NewEvent("generation_completed", 1, bound + FIELDS[1:])


def run_of(event: RecordedEvent) -> RunOpened | RunClosed | None:
    if event.type == "generation_started":
        return RunOpened(event.stream)
    if event.type == "generation_completed":
        return RunClosed(event.stream, event.body["frames"], event.body["frames_digest"])
    return None


async def produce(log: SQLiteLog, producer: int, frames_each: int, measured: Measured) -> None:
    answer = 0
    while time.perf_counter() < measured.until:
        answer += 1
        stream = f"request-{producer:04d}{answer:08d}"
        opened = await log.append(StreamWrite(stream, 0, OPENING))
        run = FrameRun(opened.last)
        rows = run.pack([TOKEN], 0, (0, ENDS))[0]
        for token in range(1, FRAMES):
            if len(rows) == frames_each:
                await measured.wait(log, rows)
                rows = []
            rows += run.pack([TOKEN], token * 20_000)[0]
        await measured.wait(log, rows)
        await log.append(StreamWrite(stream, len(OPENING), (closing(run),)))
        measured.rows += FRAMES + len(OPENING) + 1


@dataclass(frozen=True)
class Appended:
    """What a round came to. Waits are from an append to its durability; `cpu_us` is processor time a row."""

    rows_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    bytes_a_row: float
    verified_per_second: float


async def round_of(producers: int, frames_each: int, seconds: float, directory: Path | None = None) -> Appended:
    """Fill a log for so long, in a directory of its own within `directory`, and verify it."""
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        log = await SQLiteLog.open(Path(folder))
        started, cpu = time.perf_counter(), time.process_time()
        measured = Measured(seconds)
        try:
            await asyncio.gather(*(produce(log, n, frames_each, measured) for n in range(producers)))
            elapsed, cpu = time.perf_counter() - started, time.process_time() - cpu
        finally:
            await log.close()  # its thread would outlive an interrupted round
        size = (Path(folder) / "events.db").stat().st_size
        p50, p99 = statistics.quantiles(measured.waits, n=100)[49::49]
        rows = measured.rows
        return Appended(
            rows / elapsed, p50 * 1e3, p99 * 1e3, cpu / rows * 1e6, size / rows, verified_per_second(Path(folder))
        )


def told(producers: int, frames_each: int, done: Appended) -> str:
    """For people."""
    return (
        f"{producers:5d} producers, {frames_each} frames an append: {done.rows_per_second:9,.0f} rows/s, "
        f"p50 {done.p50_ms:.2f} ms, p99 {done.p99_ms:.2f} ms, {done.cpu_us:.1f} us of CPU a row, "
        f"{done.bytes_a_row:.0f} bytes a row\n      read and verified: {done.verified_per_second:,.0f} rows/s"
    )


def verified_per_second(folder: Path) -> float:
    with Reader(folder) as reader:
        started = time.perf_counter()
        findings = list(verify(reader.rows(), run_of))
        assert not findings, findings
        return reader.head() / (time.perf_counter() - started)


if __name__ == "__main__":
    for producers, frames_each in ((1, 1), (10, 1), (100, 1), (100, 8)):
        done = uvloop.run(round_of(producers, frames_each, float(sys.argv[1]) if sys.argv[1:] else 2.0))
        print(told(producers, frames_each, done))
