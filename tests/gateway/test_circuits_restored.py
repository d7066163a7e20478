"""What a start reads of how providers did: the last changes, however many there were."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventstore.catalogue.circuit import CircuitOpened
from eventstore.envelope import ANY_VERSION, StreamWrite
from eventstore.reader import Reader
from eventstore.sqlite import SQLiteLog
from gateway.circuits import RECENT, Circuits
from gateway.redaction import Redactor


def opened(credential: str, failures: int) -> CircuitOpened:
    return CircuitOpened(
        provider="demo", reason="500", failures=failures, opened_at=1, retry_at=2, cool_down_s=1.0, inputs={},
        credential=credential,
    )  # fmt: skip


@pytest.mark.parametrize(("since", "known"), [(RECENT - 1, ["early", "late"]), (RECENT, ["late"])])
async def test_the_last_changes_are_known_and_no_others(tmp_path: Path, since: int, known: list[str]) -> None:
    changes = [opened("early", 5), *(opened("late", 5 + n) for n in range(since))]
    log = await SQLiteLog.open(tmp_path)
    try:
        await log.append(StreamWrite("provider-demo", ANY_VERSION, tuple(change.new() for change in changes)))
        circuits = Circuits(log, Redactor(b"k" * 32), 10.0, refusing=True)
        with Reader(tmp_path) as reader:
            circuits.restore(reader, ["demo", "never-used"])
        shown = circuits.shown()
    finally:
        await log.close()
    assert [circuit["credential"] for circuit in shown] == known
    assert shown[-1]["failures"] == 4 + since
