"""All benchmarks: `python -m tests.benchmarks [--quick | --full] [--only NAME …] [--peers DIR] [--out DIR]`.

Writes results.json, results.md and ratios.png (with matplotlib, which the extra `bench` brings), anew after each part;
an interrupted run keeps what it measured. A run of some parts leaves the figures of the others as they are. Run it on a
machine that does nothing else. Exit code 1 where a part failed.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import uvloop

from tests.benchmarks import part_answers, part_peers, part_server, part_storage, part_streams, report
from tests.benchmarks.figures import Measuring, Part, Results
from tests.benchmarks.machine import description
from tests.benchmarks.sides import alone
from tests.benchmarks.sizes import FULL, QUICK, TINY, Sizes

Run = Callable[[Sizes, Path, Measuring], Awaitable[None]]
PARTS: Mapping[str, tuple[str, Run]] = {
    "answers": (part_answers.TITLE, part_answers.run),
    "paced": (part_streams.PACED_TITLE, part_streams.run_paced),
    "open": (part_streams.OPEN_TITLE, part_streams.run_open),
    "storage": (part_storage.STORAGE_TITLE, part_storage.run_storage),
    "start": (part_server.START_TITLE, part_server.run_start),
    "disk": (part_storage.DISK_TITLE, part_storage.run_disk),
    "relay": (part_server.RELAY_TITLE, part_server.run_relay),
    "size": (part_server.SIZE_TITLE, part_server.run_size),
    "peers": (part_peers.TITLE, partial(part_peers.run, peers=None)),
}
RESULTS = Path(__file__).with_name("results")


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    for sizes in (QUICK, FULL, TINY):
        help_text = (
            "whether it works at all; its figures say nothing"
            if sizes is TINY
            else f"{sizes.rounds} rounds of {sizes.seconds:g} s"
        )
        size.add_argument(f"--{sizes.name}", dest="sizes", action="store_const", const=sizes, help=help_text)
    parser.set_defaults(sizes=QUICK)
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="NAME", help=f"of {', '.join(PARTS)}")
    parser.add_argument(
        "--peers", type=Path, metavar="DIR", help="where tests.benchmarks.peers installed other gateways"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="where the results go")
    parser.add_argument("--dir", type=Path, help="where the logs go; the default is that of temporary files")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the parts. Returns the exit code."""
    asked = arguments().parse_args(argv)
    results = Results(asked.out)
    parts: dict[str, tuple[str, Run]] = {
        **PARTS,
        "peers": (part_peers.TITLE, partial(part_peers.run, peers=asked.peers)),
    }
    whole = True
    with contextlib.nullcontext() if asked.sizes is TINY else alone():
        for name in asked.only or parts:
            title, run = parts[name]
            try:
                whole &= measured(results, name, title, partial(run, asked.sizes), asked.sizes.name, asked.dir)
            finally:  # an interrupted part too
                for missing in report.write(asked.out, ordered(results, parts)):
                    print(missing, flush=True)
    return 0 if whole else 1


def measured(
    results: Results,
    name: str,
    title: str,
    run: Callable[[Path, Measuring], Awaitable[None]],
    size: str,
    directory: Path | None,
) -> bool:
    """Run one part in a temporary directory. Returns whether it is whole; a failure is printed and noted."""
    print(f"{name}: {title}", flush=True)
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        measuring = results.begin(name, title, size, description(Path(folder)))
        try:
            uvloop.run(_awaited(run, Path(folder), measuring))
        except Exception as error:  # noqa: BLE001  # one part that fails must not cost the figures of the others
            traceback.print_exc()
            measuring.end(f"failed: {type(error).__name__}: {error}")
            return False
        measuring.end()
    return True


async def _awaited(run: Callable[[Path, Measuring], Awaitable[None]], folder: Path, measuring: Measuring) -> None:
    await run(folder, measuring)


def ordered(results: Results, names: Mapping[str, object]) -> list[Part]:
    """The parts that there are, in the order of the report."""
    return [results.parts[name] for name in names if name in results.parts]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
