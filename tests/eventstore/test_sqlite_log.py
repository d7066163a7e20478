"""The durable log keeps the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventstore.sqlite import SQLiteLog
from tests.eventstore.log_conformance import LogConformance


class TestSQLiteLog(LogConformance):
    @pytest.fixture
    async def log(self, tmp_path: Path) -> AsyncIterator[SQLiteLog]:
        log = await SQLiteLog.open(tmp_path)
        yield log
        await log.close()
