"""What a start reads of how providers did: the last changes, however many there were."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from eventstore.catalogue.circuit import CircuitOpened
from eventstore.envelope import ANY_VERSION, StreamWrite
from eventstore.reader import Reader
from eventstore.sqlite import SQLiteLog
from gateway.circuits import RECENT, Circuits
from gateway.redaction import Redactor
from gateway.routing.circuit import LONGEST_COOL_DOWN_S

NOW = 1_795_000_000_000_000


def opened(credential: str, failures: int, retry_at: int = 2) -> CircuitOpened:
    return CircuitOpened(
        provider="demo", reason="500", failures=failures, opened_at=1, retry_at=retry_at, cool_down_s=1.0, inputs={},
        credential=credential,
    )  # fmt: skip


@pytest.mark.parametrize(("since", "known"), [(RECENT - 1, ["early", "late"]), (RECENT, ["late"])])
async def test_the_last_changes_are_known_and_no_others(tmp_path: Path, since: int, known: list[str]) -> None:
    changes = [opened("early", 5), *(opened("late", 5 + n) for n in range(since))]
    shown = await restored(tmp_path, changes)
    assert [circuit["credential"] for circuit in shown] == known
    assert shown[-1]["failures"] == 4 + since


async def test_a_clock_that_was_ahead_leaves_nobody_alone_for_longer_than_the_longest(tmp_path: Path) -> None:
    longest = NOW + int(LONGEST_COOL_DOWN_S * 1_000_000)
    ends = (NOW - 1, longest - 1, NOW + 3_600_000_000)
    shown = await restored(tmp_path, [opened(str(end), 5, end) for end in ends])
    assert [circuit["retry_at"] for circuit in shown] == [NOW - 1, longest - 1, longest]


async def restored(data_dir: Path, changes: Sequence[CircuitOpened]) -> list[dict[str, Any]]:
    """What a start shows after these."""
    log = await SQLiteLog.open(data_dir)
    try:
        await log.append(StreamWrite("provider-demo", ANY_VERSION, tuple(change.new() for change in changes)))
        circuits = Circuits(log, Redactor(b"k" * 32), 10.0, refusing=True)
        with Reader(data_dir) as reader:
            circuits.restore(reader, ["demo", "never-used"], NOW)
        return circuits.shown()
    finally:
        await log.close()
