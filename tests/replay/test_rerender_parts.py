"""Several processes render what one would, and find what one would, in the same order."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from eventstore.catalogue.request import RequestCancelled
from eventstore.catalogue.values import Usd
from eventstore.reader import Reader
from replay import rerender_parts
from replay.rerender import Requests
from replay.rerender_parts import check_in_parts
from replay.verify import verified
from tests.replay.recorded_log import Recorder

TIMES = "seconds_rows", "seconds_rendering"


@pytest.fixture
async def recorder(tmp_path: Path) -> Recorder:
    """Two whole requests, one that is open and one not retained; two that render to other bytes, and a second end
    that lies behind them all."""
    async with Recorder(tmp_path / "logs") as made:
        twice = await made.exchange("Hello")
        for _ in range(2):
            await made.exchange("wrong", payload_digest="ab" * 32, payload_length=1)
        await made.exchange("secret", retention="none")
        await made.asked()
        await made.exchange("Goodbye")
        again = RequestCancelled(
            request_id=twice, provider="demo", model="echo", reason="client_left", attempts=1, duration_ms=1.0,
            payload_digest="00", payload_length=0, cost_usd=Usd(0),
        )  # fmt: skip
        await made.add(twice, again)
    return made


def test_they_report_what_one_would(recorder: Recorder) -> None:
    with Reader(recorder.data_dir) as reader:
        alone, shared = verified(reader, jobs=1), verified(reader, jobs=3)
    assert {name: value for name, value in shared.items() if name not in TIMES} == {
        name: value for name, value in alone.items() if name not in TIMES
    }
    assert (alone["findings"], alone["requests"], len(alone["open"])) == (3, 6, 1)
    assert alone["listed"][0]["what"].startswith("request_cancelled follows"), "in the order in which requests ended"


def test_where_one_cannot_read_its_part_one_process_reads_all(recorder: Recorder) -> None:
    """The log is gone for those who come later."""
    alone, shared = Requests(), Requests()
    with Reader(recorder.data_dir) as reader:
        until = reader.head()
        expected = list(check_in_parts(reader, until, alone, (), 1))
        reader.path.rename(reader.path.with_name("moved"))
        assert list(check_in_parts(reader, until, shared, (), 2)) == expected
    assert shared == alone


def killed(*_: object) -> None:
    """A process that the system ends, as where memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_where_one_is_killed_one_process_reads_all(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rerender_parts, "_part", killed)
    with Reader(recorder.data_dir) as reader:
        assert verified(reader, jobs=2)["listed"] == verified(reader, jobs=1)["listed"]
