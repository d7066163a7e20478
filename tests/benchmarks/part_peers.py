"""Other gateways beside ours, in front of the same upstream and in the same turns."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from tests.benchmarks.figures import Measuring
from tests.benchmarks.load import has_wrk
from tests.benchmarks.part_answers import NAMES, TOKENS, added, rate
from tests.benchmarks.peers import PEERS, peer_side
from tests.benchmarks.sides import Side, floor_side, gateway_side, in_turns, upstream
from tests.benchmarks.sizes import Sizes

TITLE = "Other gateways"


async def run(sizes: Sizes, folder: Path, measuring: Measuring, peers: Path | None) -> None:
    """Those whose environment is in `peers`; the others are named."""
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(upstream(TOKENS))
        floor = await stack.enter_async_context(floor_side(url))
        sides: dict[str, Side] = {"gateway": await stack.enter_async_context(gateway_side(folder / "logs", url))}
        for peer in PEERS:
            if peers is None or not peer.installed(peers):
                measuring.note(f"{peer.name} is not installed here (`python -m tests.benchmarks.peers --install DIR`).")
                continue
            try:
                sides[peer.name] = await stack.enter_async_context(peer_side(peer, peers, folder, url))
            except (RuntimeError, OSError) as error:
                measuring.note(f"{peer.name} was left out: {error}")
        for connections in sizes.peer_connections:
            for streamed in NAMES:
                for name, side in sides.items():
                    await _measure(sizes, floor, name, side, connections, streamed, measuring)


async def _measure(
    sizes: Sizes, floor: Side, name: str, side: Side, connections: int, streamed: bool, measuring: Measuring
) -> None:
    """One against the floor, in turns. At one connection also what it adds to the time of an answer."""
    wrk = has_wrk() and sizes.seconds >= 1 and connections > 1
    what = f"{NAMES[streamed]}, {connections} connection{'s' if connections > 1 else ''}"
    try:
        turns = await in_turns((floor, side), streamed, connections, sizes.rounds, sizes.seconds, wrk)
    except RuntimeError as error:
        measuring.note(f"{name}, {what}: {error}.")
        return
    measuring.take(rate(what, name, turns[1], turns[0]))
    if connections == 1:
        measuring.take(added(f"{what}: added p50", name, lambda turn: turn.load.p50_ms, turns[1], turns[0], None))
