"""What the gateway costs, against a relay that records nothing, in the same run.

    python -m tests.benchmarks.throughput [--connections 1 16 64 256] [--rounds 5] [--seconds 4] [--nats off]

The gateway is the whole server as it is started: every frame on the disk before its bytes are released, the relay to
the embedded NATS server and all projections on. It and the floor, each one process on one core, take turns; load,
upstream, relay and projections share the other cores. A turn begins when relay and projections have caught up with the
one before. Medians of the rounds; a ratio is that of two turns in a row. Prints Markdown.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop
from aiohttp import ClientSession

from tests.benchmarks.load import Load, has_wrk, measure
from tests.benchmarks.machine import cores, cpu_s, descendants, description, pin
from tests.readme import table
from tests.serverprocess import ROOT, server_process

GOALS = {False: "0.45, later 0.7", True: "0.3, later 0.5"}
"""Share of the floor's rate at 64 connections, by whether answers are streamed."""
ADDED_MS = 1.5
"""Most that the median answer may take longer at one connection."""
LAG = re.compile(r"^abstractcore_(?:relay_lag_events|projection_lag\S*) (\S+)$", re.MULTILINE)
CATCH_UP_S = 300.0
NAMES = {False: "whole", True: "streamed"}


@dataclass(frozen=True)
class Turn:
    """One run of the load against one side. CPU in microseconds an answer: of its own process, and of those beside it
    (relay, projections, NATS). `behind_s`: how long they worked on when the load had ended."""

    load: Load
    cpu_us: float
    beside_us: float
    behind_s: float


class Side:
    """One of the two servers. `settled` waits until it has nothing left to do."""

    def __init__(self, url: str, pid: int) -> None:
        self._url, self._pid = url, pid

    async def turn(self, connections: int, seconds: float, streamed: bool, wrk: bool) -> Turn:
        beside = list(descendants(self._pid))
        before, before_beside = cpu_s(self._pid), sum(map(cpu_s, beside))
        load = await measure(self._url, connections, seconds, streamed, wrk)
        cpu, ended = cpu_s(self._pid) - before, time.perf_counter()
        await self.settled()
        behind = time.perf_counter() - ended
        beside_cpu = sum(map(cpu_s, beside)) - before_beside
        return Turn(load, cpu / load.answers * 1e6, beside_cpu / load.answers * 1e6, behind)

    async def settled(self) -> None:
        """The floor answers and forgets."""


class Gateway(Side):
    """The gateway, whose relay and projections may lag."""

    async def settled(self) -> None:
        async with ClientSession() as session, asyncio.timeout(CATCH_UP_S):
            while await self._lag(session):
                await asyncio.sleep(0.1)

    async def _lag(self, session: ClientSession) -> float:
        async with session.get(f"{self._url}/metrics") as answer:
            return max(map(float, LAG.findall(await answer.text())))


@contextmanager
def alone() -> Iterator[None]:
    """Wait until no other run goes on here: two at once would measure each other."""
    with (Path(tempfile.gettempdir()) / "abstractcore-throughput.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


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
async def sides(data_dir: Path, tokens: int, nats: str) -> AsyncIterator[tuple[Side, Side]]:
    """The floor and the gateway in front of one upstream, each pinned to the core of those that are measured."""
    measured, others = cores()
    os.sched_setaffinity(0, others)  # and so all that is started from here
    async with helper("upstream", "--tokens", str(tokens)) as (_, port):
        base_url = f"http://127.0.0.1:{port}/v1"
        env = {"OPENAI_API_KEY": "unused", "OPENAI_BASE_URL": base_url}
        started = server_process(data_dir, env=env, args=("--nats", nats))
        async with helper("floor", base_url) as (floor, floor_port), started as gateway:
            for pid in (floor, gateway.pid):
                pin(pid, measured)
            yield Side(f"http://127.0.0.1:{floor_port}", floor), Gateway(gateway.url, gateway.pid)


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


async def compare(
    floor: Side, gateway: Side, streamed: bool, connections: int, rounds: int, seconds: float, wrk: bool
) -> Compared:
    """Both sides in turns, after one of each that is not counted. The uncounted ones read every answer."""
    compared = Compared(streamed, connections, [], [])
    for side in (floor, gateway):
        await side.turn(connections, min(seconds, 2.0), streamed, wrk=False)
    for _ in range(rounds):
        compared.floor.append(await floor.turn(connections, seconds, streamed, wrk))
        compared.gateway.append(await gateway.turn(connections, seconds, streamed, wrk))
    return compared


def rates(compared: Iterable[Compared]) -> str:
    """The table of what a core can do."""
    head = (
        "answers", "connections", "floor/s", "gateway/s", "share of the floor's rate", "goal", "floor CPU",
        "gateway CPU", "times the floor's CPU", "CPU beside it", "it catches up in",
    )  # fmt: skip
    return table(head, map(rate, compared))


def rate(compared: Compared) -> tuple[str, ...]:
    floor, gateway = compared.median(lambda turn: turn.load.per_second)
    floor_us, gateway_us = compared.median(lambda turn: turn.cpu_us)
    share = "{:.2f} ({:.2f}-{:.2f})".format(*compared.ratios(lambda turn: turn.load.per_second))
    times = "{:.2f} ({:.2f}-{:.2f})".format(*compared.ratios(lambda turn: turn.cpu_us))
    return (
        NAMES[compared.streamed],
        str(compared.connections),
        f"{floor:,.0f}",
        f"{gateway:,.0f}",
        share,
        GOALS[compared.streamed] if compared.connections == 64 else "",
        f"{floor_us:,.0f} µs",
        f"{gateway_us:,.0f} µs",
        times,
        f"{compared.median(lambda turn: turn.beside_us)[1]:,.0f} µs",
        f"{compared.median(lambda turn: turn.behind_s)[1]:.1f} s",
    )


def latencies(compared: Iterable[Compared]) -> str:
    """The table of what an answer waits for, at one connection."""
    head = ("answers", "figure", "floor", "gateway", "added", "goal")
    return table(head, (row for each in compared for row in waits(each)))


def waits(compared: Compared) -> Iterator[tuple[str, ...]]:
    figures: dict[str, Callable[[Turn], float]] = {
        "p50": lambda turn: turn.load.p50_ms,
        "p99": lambda turn: turn.load.p99_ms,
        "p50 to the first byte": lambda turn: turn.load.first_p50_ms or 0.0,
    }
    for name, figure in figures.items():
        floor, gateway = compared.median(figure)
        goal = f"at most {ADDED_MS} ms" if name == "p50" else ""
        added = f"{gateway - floor:.2f} ms"
        yield NAMES[compared.streamed], name, f"{floor:.2f} ms", f"{gateway:.2f} ms", added, goal


async def main(asked: argparse.Namespace) -> None:
    wrk = has_wrk() and not asked.no_wrk
    with alone(), tempfile.TemporaryDirectory(dir=asked.dir) as folder:
        print(f"{description(Path(folder))}; load by {'wrk' if wrk else 'load.py'}; answers of {asked.tokens} tokens;")
        print(
            f"medians of {asked.rounds} rounds of {asked.seconds:g} s, the two in turns (least and most in brackets)\n"
        )
        async with sides(Path(folder) / "logs", asked.tokens, asked.nats) as (floor, gateway):
            turns = (asked.rounds, asked.seconds)
            loaded = [
                await compare(floor, gateway, streamed, connections, *turns, wrk)
                for connections in asked.connections
                for streamed in (False, True)
            ]
            print(rates(loaded), "\n", flush=True)
            single = [await compare(floor, gateway, streamed, 1, *turns, wrk=False) for streamed in (False, True)]
            print(latencies(single))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, nargs="+", default=[64])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--nats", default="embedded", help="as the server's --nats")
    parser.add_argument("--dir", help="where the log goes; the default is the system's directory for temporary files")
    parser.add_argument("--no-wrk", action="store_true", help="load with load.py even where wrk is installed")
    uvloop.run(main(parser.parse_args()))
