"""The server as a whole: how fast it starts, what its relay costs, and whether a large log makes it slower."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from aiohttp import ClientSession

from tests.benchmarks.figures import Figure, Goal, Measuring
from tests.benchmarks.fill import fill
from tests.benchmarks.load import has_wrk
from tests.benchmarks.part_answers import NAMES, TOKENS, rate
from tests.benchmarks.sides import Gateway, Turn, gateway_side, in_turns, upstream
from tests.benchmarks.sizes import Sizes
from tests.serverprocess import server_process

START_TITLE = "Start-up by size of the log"
RELAY_TITLE = "The relay to NATS: its rate and its cost"
SIZE_TITLE = "Cost against the size of the log"
START_S = 2.0
CONNECTIONS = 64
UNREACHED = "http://127.0.0.1:9/v1"


async def run_start(sizes: Sizes, folder: Path, measuring: Measuring) -> None:
    """From the command to the first answer, the projections having seen the log before; NATS is started with it."""
    for rows in sizes.start_rows:
        data_dir = folder / f"logs-{rows}"
        if rows:
            await fill(data_dir, rows)
        async with gateway_side(data_dir, UNREACHED) as gateway:
            await gateway.settled()
        took = statistics.median([await _start(data_dir) for _ in range(sizes.rounds)])
        goal = Goal.at_most(took, START_S, " s")
        measuring.take(Figure(f"start with {rows:,} rows in the log", "gateway", took, "s", goal=goal))


async def _start(data_dir: Path) -> float:
    began = time.perf_counter()
    async with server_process(data_dir, args=("--nats", "embedded")) as server:
        async with ClientSession() as session, session.get(f"{server.url}/health") as answer:
            await answer.read()
        took = time.perf_counter() - began
        await server.terminate()
    return took


async def run_relay(sizes: Sizes, folder: Path, measuring: Measuring) -> None:
    """Two gateways in turns, one that relays and one that does not."""
    async with (
        upstream(TOKENS) as url,
        gateway_side(folder / "off", url, "off") as off,
        gateway_side(folder / "on", url) as on,
    ):
        for streamed, name in NAMES.items():
            turns = await _in_turns(sizes, (off, on), streamed)
            what = f"{name}, {CONNECTIONS} connections"
            measuring.take(rate(f"{what}: relay on, against off", "gateway", turns[1], turns[0]))
            measuring.take(await _relayed(f"{what}: rows relayed and folded, nothing left behind", on, sizes, streamed))


async def _relayed(what: str, on: Gateway, sizes: Sizes, streamed: bool) -> Figure:
    """Rows a second from the beginning of the load until nothing was left to relay or to fold."""
    each = []
    for _ in range(sizes.rounds):
        before = await on.position()
        turn = await on.turn(CONNECTIONS, sizes.seconds, streamed, _wrk(sizes))
        each.append((await on.position() - before) / (turn.load.seconds + turn.behind_s))
    return Figure(what, "gateway", statistics.median(each), "rows/s")


async def run_size(sizes: Sizes, folder: Path, measuring: Measuring) -> None:
    """Two gateways in turns, one on an empty log and one on a large one."""
    await fill(folder / "large", sizes.log_rows)
    async with (
        upstream(TOKENS) as url,
        gateway_side(folder / "empty", url) as empty,
        gateway_side(folder / "large", url) as large,
    ):
        await large.settled()
        for streamed, name in NAMES.items():
            turns = await _in_turns(sizes, (empty, large), streamed)
            what = f"{name}, {CONNECTIONS} connections: log of {sizes.log_rows:,} rows, against an empty one"
            measuring.take(rate(what, "gateway", turns[1], turns[0]))


async def _in_turns(sizes: Sizes, sides: tuple[Gateway, Gateway], streamed: bool) -> list[list[Turn]]:
    return await in_turns(sides, streamed, CONNECTIONS, sizes.rounds, sizes.seconds, _wrk(sizes))


def _wrk(sizes: Sizes) -> bool:
    return has_wrk() and sizes.seconds >= 1
