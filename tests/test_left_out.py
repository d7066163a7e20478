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


def test_worker_processes_name_them_too(project: pytest.Pytester) -> None:
    result = project.runpytest("-n", "1", "-p", "no:asyncio")
    result.stdout.fnmatch_lines(["*1 system tests were left out*", "test_some.py::test_with_node"])
