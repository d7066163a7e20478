"""Streams at a model's pace: the delay that the gateway adds to a token, and what open streams cost."""

from __future__ import annotations

import asyncio
import resource
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from aiohttp import ClientSession

from tests.benchmarks.figures import Figure, Goal, Measuring
from tests.benchmarks.load import percentile_ms
from tests.benchmarks.machine import resident_bytes
from tests.benchmarks.sides import Side, floor_side, gateway_side, upstream
from tests.benchmarks.sizes import Sizes
from tests.serverprocess import ROOT

PACED_TITLE = "Paced streams: delay added to a token"
OPEN_TITLE = "Open streams: memory and the event loop"
EVERY_MS = 20.0
TOKENS = 200
IDLE_MS, SECOND_MS = 3_600_000.0, 1_000.0
ALL_OPEN = 10_000
ALL_OPEN_MB = 500
"""The goal: so many streams, the server and the upstream's sockets included, in so much memory."""
FILES_KEPT = 100
"""Open files of the server that are no stream's."""
PROBE_S = 0.02
PATIENT = ("--idle-timeout", "3600")


@asynccontextmanager
async def streams(side: Side, connections: int, seconds: float) -> AsyncIterator[dict[str, Any]]:
    """So many open streams; what `streams.py` said of their tokens. They stay open within the block."""
    command = ("-m", "tests.benchmarks.streams", side.url, "--connections", f"{connections}")
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, "--seconds", f"{seconds}", "--hold", cwd=ROOT,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        line = await process.stdout.readline()
        if not line:
            raise RuntimeError("the streams did not all begin")
        said = orjson.loads(line)
        if said["failed"]:
            raise RuntimeError(f"{said['failed']} of {connections} streams were cut")
        yield said
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def run_paced(sizes: Sizes, folder: Path, measuring: Measuring) -> None:
    """A token each 20 ms on each of so many connections."""
    async with (
        upstream(TOKENS, EVERY_MS) as url,
        floor_side(url) as floor,
        gateway_side(folder / "logs", url) as gateway,
    ):
        for connections in sizes.paced:
            turns = [[await _paced(side, connections, sizes) for side in (floor, gateway)] for _ in range(sizes.rounds)]
            for kind in ("p50_ms", "p99_ms"):
                beside = statistics.median(floored[kind] for floored, _ in turns)
                more = statistics.median(gated[kind] for _, gated in turns) - beside
                what = f"{connections} connections: delay added to a token, {kind.removesuffix('_ms')}"
                measuring.take(Figure(what, "gateway", more, "ms", beside))


async def _paced(side: Side, connections: int, sizes: Sizes) -> dict[str, Any]:
    async with streams(side, connections, sizes.seconds) as said:
        pass
    await side.settled()
    return said


async def run_open(sizes: Sizes, folder: Path, measuring: Measuring) -> None:
    """First streams in which nothing happens, then as many with a token a second; each with a server of its own."""
    number = min(sizes.open_streams, files_limit() // 2 - FILES_KEPT)
    if number < sizes.open_streams:
        measuring.note(
            f"{number:,} streams instead of {sizes.open_streams:,}: the limit of open files is {files_limit():,}"
        )
    for how, every_ms in (("idle", IDLE_MS), ("a token a second", SECOND_MS)):
        async with (
            upstream(10_000, every_ms) as url,
            gateway_side(folder / how.replace(" ", "-"), url, "embedded", *PATIENT) as gateway,
        ):
            await _open(f"{number:,} streams, {how}", gateway, number, sizes, measuring)


async def _open(what: str, side: Side, number: int, sizes: Sizes, measuring: Measuring) -> None:
    async with streams(side, 1, 0.1):
        pass  # what the first request loads is not the streams'
    await side.settled()
    before = resident_bytes(side.pid)
    async with streams(side, number, sizes.seconds):
        waits = await _waits(side, sizes.seconds)
        resident = resident_bytes(side.pid)
    measuring.take(Figure(f"{what}: memory of a stream", "gateway", (resident - before) / number / 1024, "KiB"))
    megabytes = resident / 1e6
    goal = Goal.at_most(megabytes, ALL_OPEN_MB, " MB") if number >= 0.9 * ALL_OPEN else None
    measuring.take(Figure(f"{what}: memory of the server", "gateway", megabytes, "MB", goal=goal))
    measuring.take(Figure(f"{what}: p50 of the wait for /health", "gateway", percentile_ms(waits, 0.50), "ms"))
    measuring.take(Figure(f"{what}: longest wait for /health", "gateway", max(waits) * 1e3, "ms"))


async def _waits(side: Side, seconds: float) -> list[float]:
    """How long /health takes, in seconds: it asks nothing of anything but the event loop."""
    until = time.perf_counter() + seconds
    waits: list[float] = []
    async with ClientSession() as session:
        while not waits or time.perf_counter() < until:
            began = time.perf_counter()
            async with session.get(f"{side.url}/health") as answer:
                await answer.read()
            waits.append(time.perf_counter() - began)
            await asyncio.sleep(PROBE_S)
    return waits


def files_limit() -> int:
    """How many files a process here may open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]
