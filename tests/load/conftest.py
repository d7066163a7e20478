"""The clients are sockets of the process that runs the tests: it needs as many files as the server."""

from __future__ import annotations

import pytest

from gateway.__main__ import raise_open_files


@pytest.fixture(scope="session", autouse=True)
def many_open_files() -> None:
    raise_open_files()
