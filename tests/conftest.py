"""Plain `pytest` names what it leaves out: tests marked `system` need `--system`, those marked `soak` `--soak`.

`-m soak` and `-m system` run what they select, and nothing else.

Hypothesis tries the same examples every time, so that a run says something of a change and not of its luck, with
`--soak` others each time; and it leaves the time that one takes to the machine.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, settings

OPTIONAL = {
    "system": "run the tests that need what .ci/run installs (Node and its packages, Debian packages)",
    "soak": "run the long versions",
}


def wanted(config: pytest.Config, marker: str) -> bool:
    """Whether the tests of this marker were asked for, by its option or by name in `-m`."""
    return bool(config.getoption(f"--{marker}") or re.search(rf"(?<!not )\b{marker}\b", config.option.markexpr))


def pytest_addoption(parser: pytest.Parser) -> None:
    for marker, help_text in OPTIONAL.items():
        parser.addoption(f"--{marker}", action="store_true", help=help_text)


def pytest_configure(config: pytest.Config) -> None:
    """Before any test module is read: settings are made from the profile of that moment."""
    patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
    settings.register_profile("usual", patient, derandomize=True)
    settings.register_profile("soak", patient, derandomize=False)
    settings.load_profile("soak" if wanted(config, "soak") else "usual")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for marker in OPTIONAL:
        if wanted(config, marker):
            continue
        for item in items:
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=f"needs --{marker}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Skipped is not silent: one line each, also where the tests ran in worker processes."""
    for marker in OPTIONAL:
        if wanted(config, marker):
            continue
        left_out = [report.nodeid for report in terminalreporter.stats.get("skipped", ()) if marker in report.keywords]
        if left_out:
            terminalreporter.section(f"{len(left_out)} {marker} tests were left out (--{marker} runs them)", sep="-")
            for nodeid in sorted(left_out):
                terminalreporter.write_line(nodeid)
