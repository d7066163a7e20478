"""What the gateway costs, against a relay that records nothing, in the same run.

    python -m tests.benchmarks.throughput [--connections 1 16 64 256] [--rounds 5] [--seconds 4]
        [--answers whole] [--nats off]

The gateway is the whole server as it is started: every frame on the disk before its bytes are released, the relay to
the embedded NATS server and all projections on. It and the floor, each one process on one core, take turns; load,
upstream, relay and projections share the other cores. A turn begins when relay and projections have caught up with the
one before. Medians of the rounds; a ratio is that of two turns in a row. Prints Markdown.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import uvloop

from tests.benchmarks.load import has_wrk
from tests.benchmarks.machine import description
from tests.benchmarks.sides import Compared, Turn, alone, compare, sides
from tests.readme import table

GOALS = {False: "0.45, later 0.7", True: "0.3, later 0.5"}
"""Share of the floor's rate at 64 connections, by whether answers are streamed."""
ADDED_MS = 1.5
"""Most that the median answer may take longer at one connection."""
NAMES = {False: "whole", True: "streamed"}


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
    kinds = [streamed for streamed in (False, True) if NAMES[streamed] in asked.answers]
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
                for streamed in kinds
            ]
            print(rates(loaded), "\n", flush=True)
            single = [await compare(floor, gateway, streamed, 1, *turns, wrk=False) for streamed in kinds]
            print(latencies(single))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, nargs="+", default=[64])
    parser.add_argument("--answers", nargs="+", choices=NAMES.values(), default=list(NAMES.values()))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--nats", default="embedded", help="as the server's --nats")
    parser.add_argument("--dir", help="where the log goes; the default is the system's directory for temporary files")
    parser.add_argument("--no-wrk", action="store_true", help="load with load.py even where wrk is installed")
    uvloop.run(main(parser.parse_args()))
