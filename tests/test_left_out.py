"""Plain `pytest` names the tests that it leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

TESTS = """
import pytest

@pytest.mark.system
def test_with_node():
    assert True

@pytest.mark.soak
def test_for_an_hour():
    assert True

def test_plain():
    assert True
"""
MARKERS = "[pytest]\nmarkers =\n    system: x\n    soak: x\n"


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(Path(__file__).with_name("conftest.py").read_text())
    pytester.makeini(MARKERS)
    pytester.makepyfile(test_some=TESTS)
    return pytester


def test_what_is_left_out_is_counted_and_named(project: pytest.Pytester) -> None:
    result = project.runpytest("-p", "no:asyncio", "-p", "no:xdist")
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines(["*1 system tests were left out*", "test_some.py::test_with_node"])
    result.stdout.fnmatch_lines(["*1 soak tests were left out*", "test_some.py::test_for_an_hour"])


def test_the_option_runs_them(project: pytest.Pytester) -> None:
    result = project.runpytest("--system", "-p", "no:asyncio", "-p", "no:xdist")
    result.assert_outcomes(passed=2, skipped=1)
    result.stdout.no_fnmatch_line("*system tests were left out*")


@pytest.mark.parametrize("marker", ["system", "soak"])
def test_a_marker_that_is_named_runs_them(project: pytest.Pytester, marker: str) -> None:
    result = project.runpytest("-m", marker, "-p", "no:asyncio", "-p", "no:xdist")
    result.assert_outcomes(passed=1, deselected=2)


@pytest.mark.parametrize(("expression", "skipped"), [("soak or system", 0), ("not soak", 1)])
def test_an_expression_runs_what_it_selects(project: pytest.Pytester, expression: str, skipped: int) -> None:
    result = project.runpytest("-m", expression, "-p", "no:asyncio", "-p", "no:xdist")
    outcomes = result.parseoutcomes()
    assert outcomes.get("skipped", 0) == skipped
    assert outcomes["passed"] + skipped + outcomes.get("deselected", 0) == 3


def test_worker_processes_name_them_too(project: pytest.Pytester) -> None:
    result = project.runpytest("-n", "1", "-p", "no:asyncio")
    result.stdout.fnmatch_lines(["*1 system tests were left out*", "test_some.py::test_with_node"])
