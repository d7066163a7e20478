"""A scripted upstream and a whole gateway in front of it, one of each for the tests of a file."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.gateway.scripted import ScriptedServer
from tests.gateway.whole import Gateway, gateway


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def upstream() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def served(upstream: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with gateway(tmp_path_factory.mktemp("served") / "logs", upstream.base_url) as running:
        yield running
