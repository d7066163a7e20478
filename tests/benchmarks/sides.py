"""The servers that are measured, all on one core and in turns, and the programs beside them on the others."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import ClientSession

from tests.benchmarks.load import Load, measure
from tests.benchmarks.machine import cores, cpu_s, descendants, pin
from tests.serverprocess import ROOT, server_process

LAG = re.compile(r"^abstractcore_(?:relay_lag_events|projection_lag\S*) (\S+)$", re.MULTILINE)
POSITION = re.compile(r"^abstractcore_log_position (\S+)$", re.MULTILINE)
CATCH_UP_S = 3_600.0
WARM_UP_S = 2.0


@dataclass(frozen=True)
class Turn:
    """One run of the load against one side. CPU in microseconds an answer: of its own process, and of those beside it
    (relay, projections, NATS). `behind_s`: how long they worked on when the load had ended."""

    load: Load
    cpu_us: float
    beside_us: float
    behind_s: float


class Side:
    """A server. `headers` are what it must be told beside the request. `settled` waits until it has nothing left to
    do."""

    def __init__(self, url: str, pid: int, headers: Mapping[str, str] | None = None) -> None:
        self.url, self.pid = url, pid
        self._headers = headers or {}

    async def turn(self, connections: int, seconds: float, streamed: bool, wrk: bool) -> Turn:
        """Load it. Raises `RuntimeError` where an answer was not whole."""
        beside = list(descendants(self.pid))
        before, before_beside = cpu_s(self.pid), sum(map(cpu_s, beside))
        load = await measure(self.url, connections, seconds, streamed, wrk, self._headers)
        cpu, ended = cpu_s(self.pid) - before, time.perf_counter()
        await self.settled()
        behind = time.perf_counter() - ended
        beside_cpu = sum(map(cpu_s, beside)) - before_beside
        return Turn(load, cpu / load.answers * 1e6, beside_cpu / load.answers * 1e6, behind)

    async def settled(self) -> None:
        """The floor answers and forgets."""


class Gateway(Side):
    """The gateway, whose relay and projections may lag."""

    async def settled(self) -> None:
        """Raises `TimeoutError` where they do not catch up."""
        async with asyncio.timeout(CATCH_UP_S):
            while max(map(float, LAG.findall(await self._metrics())), default=0.0):
                await asyncio.sleep(0.1)

    async def position(self) -> int:
        """Of the newest row of its log."""
        return int(float(POSITION.findall(await self._metrics())[0]))

    async def _metrics(self) -> str:
        async with ClientSession() as session, session.get(f"{self.url}/metrics") as answer:
            return await answer.text()


@contextmanager
def alone() -> Iterator[None]:
    """Wait until no other run goes on here: two at once would measure each other."""
    with (Path(tempfile.gettempdir()) / "abstractcore-throughput.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def elsewhere() -> Iterator[None]:
    """Within, this process and what it starts keep off the core of those that are measured."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores()[1])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@asynccontextmanager
async def helper(module: str, *args: str) -> AsyncIterator[tuple[int, int]]:
    """A program of this folder as a process: its pid, and the port that it says it listens on."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"tests.benchmarks.{module}", *args, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield process.pid, int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def upstream(tokens: int, every_ms: float = 0.0) -> AsyncIterator[str]:
    """The upstream of all sides: its base URL. With `every_ms` a streamed answer's tokens come so far apart."""
    with elsewhere():
        async with helper("upstream", "--tokens", str(tokens), "--every-ms", str(every_ms)) as (_, port):
            yield f"http://127.0.0.1:{port}/v1"


@asynccontextmanager
async def floor_side(base_url: str) -> AsyncIterator[Side]:
    """The relay that records nothing, on the core of those that are measured."""
    async with helper("floor", base_url) as (pid, port):
        pin(pid, cores()[0])
        yield Side(f"http://127.0.0.1:{port}", pid)


@asynccontextmanager
async def gateway_side(data_dir: Path, base_url: str, nats: str = "embedded", *args: str) -> AsyncIterator[Gateway]:
    """The whole gateway: its process on the core of those that are measured, its followers on the others. `args` are
    further flags."""
    env = {"OPENAI_API_KEY": "unused", "OPENAI_BASE_URL": base_url}
    async with server_process(data_dir, env=env, args=("--nats", nats, *args)) as server:
        pin(server.pid, cores()[0])
        yield Gateway(server.url, server.pid)


@asynccontextmanager
async def sides(data_dir: Path, tokens: int, nats: str) -> AsyncIterator[tuple[Side, Side]]:
    """The floor and the gateway in front of one upstream."""
    async with upstream(tokens) as url, floor_side(url) as floor, gateway_side(data_dir, url, nats) as gateway:
        yield floor, gateway


@dataclass(frozen=True)
class Compared:
    """The turns of both sides, in the order in which they took them."""

    streamed: bool
    connections: int
    floor: list[Turn]
    gateway: list[Turn]

    def median(self, figure: Callable[[Turn], float]) -> tuple[float, float]:
        """Of the floor, of the gateway."""
        return statistics.median(map(figure, self.floor)), statistics.median(map(figure, self.gateway))

    def ratios(self, figure: Callable[[Turn], float]) -> tuple[float, float, float]:
        """The gateway's to the floor's of the turn before: median, least, most."""
        each = [figure(gateway) / figure(floor) for floor, gateway in zip(self.floor, self.gateway, strict=True)]
        return statistics.median(each), min(each), max(each)


async def in_turns(
    sides: Sequence[Side], streamed: bool, connections: int, rounds: int, seconds: float, wrk: bool
) -> list[list[Turn]]:
    """The turns of each side, after one of each that is not counted. The uncounted ones read every answer."""
    for side in sides:
        await side.turn(connections, min(seconds, WARM_UP_S), streamed, wrk=False)
    taken: list[list[Turn]] = [[] for _ in sides]
    for _ in range(rounds):
        for side, turns in zip(sides, taken, strict=True):
            turns.append(await side.turn(connections, seconds, streamed, wrk))
    return taken


async def compare(
    floor: Side, gateway: Side, streamed: bool, connections: int, rounds: int, seconds: float, wrk: bool
) -> Compared:
    """Both sides in turns."""
    taken = await in_turns((floor, gateway), streamed, connections, rounds, seconds, wrk)
    return Compared(streamed, connections, *taken)
