"""How much of everything a run measures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """`rounds` of `seconds` for every rate; the rest is the size of one part each. Rows are those of a log, of both
    lanes."""

    name: str
    rounds: int
    seconds: float
    connections: tuple[int, ...]
    peer_connections: tuple[int, ...]
    paced: tuple[int, ...]
    open_streams: int
    storage_rows: int
    start_rows: tuple[int, ...]
    log_rows: int
    archived_answers: int


FULL = Sizes(
    name="full",
    rounds=5,
    seconds=4.0,
    connections=(1, 16, 64, 256),
    peer_connections=(1, 64),
    paced=(20, 200, 400),
    open_streams=10_000,
    storage_rows=1_000_000,
    start_rows=(0, 1_000_000, 10_000_000),
    log_rows=1_000_000,
    archived_answers=2_000,
)
QUICK = Sizes(
    name="quick",
    rounds=3,
    seconds=1.0,
    connections=(1, 16, 64, 256),
    peer_connections=(1, 64),
    paced=(20, 200, 400),
    open_streams=500,
    storage_rows=200_000,
    start_rows=(0, 100_000),
    log_rows=100_000,
    archived_answers=500,
)
TINY = Sizes(
    name="tiny",
    rounds=1,
    seconds=0.2,
    connections=(2,),
    peer_connections=(2,),
    paced=(2,),
    open_streams=10,
    storage_rows=2_000,
    start_rows=(0, 2_000),
    log_rows=2_000,
    archived_answers=5,
)
"""Whether it works at all; its figures say nothing."""
