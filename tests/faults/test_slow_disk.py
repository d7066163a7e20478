"""A disk that takes two seconds for a sync: what waits is bounded, new work is refused, the event loop goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventstore.reader import Reader
from eventstore.sqlite import QUEUED_APPENDS
from eventstore.verify import verify
from tests.eventstore.builders import run_of
from tests.faults.flood import BEFORE, SLOW_S
from tests.faults.strace import STRACE, Ended, Fault, run

pytestmark = [pytest.mark.system, pytest.mark.skipif(STRACE is None, reason="there is no strace")]

SLOW = Fault("fdatasync,fsync", f"delay_enter={SLOW_S * 1e6:.0f}", str(BEFORE + 2))
"""One of the first syncs of the flood (opening the log makes as many before it, in a thread that has its own count)."""


async def flooded(data_dir: Path, kind: str) -> tuple[int, Ended]:
    """How many appends waited at most, and the rest of what was said."""
    data_dir.mkdir()
    ended = await run(SLOW, data_dir, "tests.faults.flood", kind)
    assert ended.exit_code == 0
    assert ended.injected
    return int(ended.named("waiting")[0]), ended


async def test_a_sync_of_two_seconds_fills_a_bounded_queue(tmp_path: Path) -> None:
    waiting, ended = await flooded(tmp_path / "log", "SQLiteLog")
    print(f"at most {waiting} appends waited; the event loop was {lag_s(ended)} s late at worst")
    assert lag_s(ended) < SLOW_S / 2
    assert ended.named("busy") == ["1"]
    assert waiting <= QUEUED_APPENDS
    with Reader(tmp_path / "log") as reader:
        rows = reader.read(0, 1 << 30)
    assert ended.named("written") == [str(len(rows))]
    assert list(verify(rows, run_of)) == []


def lag_s(ended: Ended) -> float:
    return float(ended.named("lag_ms")[0]) / 1000


async def test_commits_on_the_loop_are_noticed(tmp_path: Path) -> None:
    _, ended = await flooded(tmp_path / "log", "OnTheLoop")
    assert lag_s(ended) > SLOW_S / 2


async def test_a_queue_without_bounds_is_noticed(tmp_path: Path) -> None:
    waiting, ended = await flooded(tmp_path / "log", "Unbounded")
    assert waiting > QUEUED_APPENDS
    assert ended.named("busy") == ["0"]
