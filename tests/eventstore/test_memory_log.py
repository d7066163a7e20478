"""The reference keeps the contract."""

from __future__ import annotations

import pytest

from eventstore.memory import MemoryLog
from tests.eventstore.log_conformance import LogConformance


class TestMemoryLog(LogConformance):
    @pytest.fixture
    async def log(self) -> MemoryLog:
        return MemoryLog()
