"""A test run once more, in a process of its own where a bug was put into the product: it must fail, and say why.

    assert "the socket failed" in failure("tests.streams.careless", "any_origin", "streams/test_browser.py::test_…")

The test itself is not touched. The bug also stands in each server that the test starts as a process (`serverprocess`),
but not in what that server starts in its turn.

    python -m tests.spoilt MODULE BUG TEST    runs the test with `BUG` of the module's `BUGS`, a function, called before
    python -m tests.spoilt MODULE BUG --…     runs the server so
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests import serverprocess

ENDS_WITHIN_S = 600.0
"""So that a hang ends."""
FAILED = int(pytest.ExitCode.TESTS_FAILED)


def failure(module: str, bug: str, test: str) -> str:
    """What the test says with this bug in the product. `test` is its name for pytest, without `tests/`; of several
    parameter sets all are tried. Raises `AssertionError` where nothing fails, or the bug or the test is not there."""
    command = (sys.executable, "-m", "tests.spoilt", module, bug, f"tests/{test}")
    ran = subprocess.run(
        command, cwd=serverprocess.ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=ENDS_WITHIN_S, check=False,
    )  # fmt: skip
    told = ran.stdout + ran.stderr
    assert ran.returncode == FAILED, f"{test} ended with {ran.returncode} in spite of {bug}:\n{told}"
    return "\n".join(line for line in told.splitlines() if line.startswith("E "))


def main(module: str, bug: str, *rest: str) -> int:
    """Put the bug in; run the test, or the server."""
    importlib.import_module(module).BUGS[bug]()
    if rest[0].startswith("-"):
        return serve(rest)
    serverprocess.COMMAND = (sys.executable, "-m", "tests.spoilt", module, bug)
    return pytest.main(
        ["--quiet", "--system", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:schemathesis", *rest]
    )


def serve(arguments: Sequence[str]) -> int:
    """The server as `python -m gateway` runs it."""
    from gateway.__main__ import main as server

    server(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
