"""Answers a second and what one waits for, whole and streamed: the gateway against the floor, in turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.figures import Figure, Goal, Measuring, Ratio
from tests.benchmarks.load import has_wrk
from tests.benchmarks.report import RATES
from tests.benchmarks.sides import Side, Turn, in_turns, sides
from tests.benchmarks.sizes import Sizes

TITLE = "Answers: rate and added latency"
NAMES = {False: "whole", True: "streamed"}
GOALS = {False: 0.7, True: 0.5}
"""Share of the floor's rate, by whether answers are streamed, at `GOAL_AT` connections."""
GOAL_AT = 64
ADDED_MS = 1.5
TOKENS = 64


async def run(sizes: Sizes, folder: Path, measuring: Measuring) -> None:
    """Every number of connections, then one connection for what an answer waits for."""
    async with sides(folder / "logs", TOKENS, "embedded") as (floor, gateway):
        for connections in sizes.connections:
            for streamed in NAMES:
                await _rate(sizes, floor, gateway, connections, streamed, measuring)
        for streamed in NAMES:
            await _latency(sizes, floor, gateway, streamed, measuring)


async def _rate(
    sizes: Sizes, floor: Side, gateway: Side, connections: int, streamed: bool, measuring: Measuring
) -> None:
    turns = await in_turns(
        (floor, gateway), streamed, connections, sizes.rounds, sizes.seconds, has_wrk() and sizes.seconds >= 1
    )
    what = f"{NAMES[streamed]}, {connections} connections"
    goal = GOALS[streamed] if connections == GOAL_AT else None
    measuring.take(rate(what, "gateway", turns[1], turns[0], goal))
    measuring.take(cpu(what, turns[1], turns[0]))
    beside = statistics.median(turn.beside_us for turn in turns[1])
    measuring.take(Figure(f"{what}: CPU of relay, projections and NATS an answer", "gateway", beside, "µs"))
    behind = statistics.median(turn.behind_s for turn in turns[1])
    measuring.take(Figure(f"{what}: they catch up in", "gateway", behind, "s"))


def rate(what: str, who: str, turns: list[Turn], floor: list[Turn], goal: float | None = None) -> Figure:
    """Answers a second, against those of the turns of `floor`."""
    measured, beside = per_second(turns), per_second(floor)
    ratio = Ratio.of(measured, beside)
    reached = None if goal is None else Goal.at_least(ratio.median, goal, " of the floor")
    return Figure(what, who, statistics.median(measured), RATES, statistics.median(beside), ratio, reached)


def per_second(turns: list[Turn]) -> list[float]:
    """Answers a second, by turn."""
    return [turn.load.per_second for turn in turns]


def cpu(what: str, turns: list[Turn], floor: list[Turn]) -> Figure:
    """Processor time an answer, of the process that serves."""
    measured, beside = [turn.cpu_us for turn in turns], [turn.cpu_us for turn in floor]
    ratio = Ratio.of(measured, beside) if all(beside) else None
    name = f"{what}: CPU an answer"
    return Figure(name, "gateway", statistics.median(measured), "µs", statistics.median(beside), ratio)


async def _latency(sizes: Sizes, floor: Side, gateway: Side, streamed: bool, measuring: Measuring) -> None:
    turns = await in_turns((floor, gateway), streamed, 1, sizes.rounds, sizes.seconds, wrk=False)
    kinds: dict[str, Callable[[Turn], float]] = {
        "p50": lambda turn: turn.load.p50_ms,
        "p99": lambda turn: turn.load.p99_ms,
        "p50 to the first byte": lambda turn: turn.load.first_p50_ms or 0.0,
    }
    for kind, figure in kinds.items():
        bound = ADDED_MS if kind == "p50" else None
        measuring.take(
            added(f"{NAMES[streamed]}, 1 connection: added {kind}", "gateway", figure, turns[1], turns[0], bound)
        )


def added(
    what: str,
    who: str,
    figure: Callable[[Turn], float],
    turns: list[Turn],
    floor: list[Turn],
    bound: float | None = None,
) -> Figure:
    """By how many milliseconds it is more than the floor's; `floor` of the figure is the floor's own."""
    beside = statistics.median(map(figure, floor))
    more = statistics.median(map(figure, turns)) - beside
    return Figure(what, who, more, "ms", beside, goal=None if bound is None else Goal.at_most(more, bound, " ms"))
