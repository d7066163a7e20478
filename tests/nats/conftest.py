from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from eventstore.sqlite import SQLiteLog
from tests.eventstore.relay_rig import FRAMES, open_run
from tests.nats.check import Copy
from tests.natsd import Natsd


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Natsd]:
    server = Natsd(tmp_path / "nats")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
async def log(data_dir: Path) -> AsyncIterator[SQLiteLog]:
    log = await SQLiteLog.open(data_dir, durability="process")
    yield log
    await log.close()


@pytest.fixture
def copy(data_dir: Path) -> Copy:
    return Copy(data_dir, FRAMES, open_run)
