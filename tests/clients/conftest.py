"""One server for each file of tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.clients.front import PLACES, Front, front


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    """The server of this file."""
    async with front(tmp_path_factory.mktemp("front")) as made:
        yield made


@pytest.fixture
def server(running: Front) -> Front:
    """The server of this file, its providers answering plainly again."""
    for provider in PLACES:
        running.play(provider)
    running.upstream.requests.clear()
    return running
