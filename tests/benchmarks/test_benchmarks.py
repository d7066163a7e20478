"""The benchmarks themselves: they run, they keep what they measured, and their report says what it is."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventstore.reader import Reader
from eventstore.verify import verify
from gateway.exchange.runs import run_of
from tests.benchmarks import report
from tests.benchmarks.__main__ import PARTS
from tests.benchmarks.figures import Figure, Goal, Measuring, Part, Ratio, Results, number
from tests.benchmarks.fill import fill
from tests.serverprocess import ROOT

PNG = b"\x89PNG\r\n\x1a\n"
TINY = (sys.executable, "-m", "tests.benchmarks", "--tiny", "--out")
PATIENCE_S = 60.0


def figure(what: str, value: float = 1.0) -> Figure:
    return Figure(what, "gateway", value, "answers/s", 2.0, Ratio(0.5, 0.4, 0.6), Goal.at_least(0.5, 0.7))


def begin(directory: Path) -> Measuring:
    return Results(directory).begin("answers", "Answers", "tiny", "a machine")


def values(directory: Path) -> dict[str, float]:
    return {each.what: each.value for each in Results(directory).parts["answers"].figures}


def test_every_figure_is_on_the_disk_when_it_is_taken(tmp_path: Path) -> None:
    measuring = begin(tmp_path)
    measuring.take(figure("one"))
    assert Results(tmp_path).parts["answers"].figures == [figure("one")]
    assert Results(tmp_path).parts["answers"].ended == ""


def test_an_interrupted_run_loses_nothing_of_earlier_ones(tmp_path: Path) -> None:
    earlier = begin(tmp_path)
    earlier.take(figure("one", 1.0))
    earlier.take(figure("two", 2.0))
    earlier.end()
    begin(tmp_path).take(figure("one", 10.0))
    assert values(tmp_path) == {"one": 10.0, "two": 2.0}


def test_a_whole_run_drops_what_is_not_measured_any_more(tmp_path: Path) -> None:
    begin(tmp_path).take(figure("of an earlier release"))
    now = begin(tmp_path)
    now.take(figure("one"))
    now.end()
    assert values(tmp_path) == {"one": 1.0}


def test_no_figure_is_no_number(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one of gateway"):
        begin(tmp_path).take(figure("one", math.nan))


def test_the_table_says_ratio_goal_and_whether_it_was_whole() -> None:
    text = report.section(Part("answers", "Answers", "tiny", "a machine", figures=[figure("one", 1234.5)]))
    assert "| one | gateway | 1,234 answers/s | 2 answers/s | 0.5 (0.4-0.6) | at least 0.7 | **no** |" in text
    assert "**not whole**: interrupted" in text


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (0.012345, "0.0123"), (1.5, "1.5"), (12345.6, "12,346")])
def test_three_digits_count(value: float, text: str) -> None:
    assert number(value) == text


async def test_a_filled_log_is_one_that_verifies(tmp_path: Path) -> None:
    await fill(tmp_path / "logs", 500)
    with Reader(tmp_path / "logs") as reader:
        assert reader.head() >= 500
        assert list(verify(reader.rows(), run_of)) == []


def test_an_interrupt_keeps_the_figures_and_writes_the_report(tmp_path: Path) -> None:
    parts = ("storage", "paced", "open")  # more than are done when the first figure is there
    running = subprocess.Popen(
        [*TINY, str(tmp_path), "--only", *parts],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        preexec_fn=heeding_interrupts,
    )
    try:
        for _ in until(PATIENCE_S):
            if (tmp_path / "results.json").exists():
                break
        running.send_signal(signal.SIGINT)
        assert running.wait(PATIENCE_S) != 0
    finally:
        running.kill()
        running.wait()
    assert Results(tmp_path).parts["storage"].figures
    assert "**not whole**: interrupted" in (tmp_path / report.MARKDOWN).read_text(encoding="utf-8")


def heeding_interrupts() -> None:
    """What a shell runs in the background ignores them, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def until(seconds: float) -> Iterator[None]:
    """Again and again, for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.02)
    raise TimeoutError


@pytest.mark.soak
def test_the_whole_command_runs(tmp_path: Path) -> None:
    """A minute, and so left to whoever changes the benchmarks."""
    subprocess.run([*TINY, str(tmp_path)], cwd=ROOT, env=dict(os.environ), check=True, timeout=600)
    parts = Results(tmp_path).parts
    assert {name: part.ended for name, part in parts.items()} == dict.fromkeys(PARTS, "whole")
    assert all(part.figures for part in parts.values())


def test_the_chart_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra bench brings it")
    assert report.draw(tmp_path / report.CHART, [Part("answers", "Answers", figures=[figure("one")])]) == []
    assert (tmp_path / report.CHART).read_bytes().startswith(PNG)
