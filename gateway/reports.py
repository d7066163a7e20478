"""Queries over projections.db from the event loop: in a few threads, each with a read-only connection of its own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local
from typing import TypeVar

from projections.db import Reader

T = TypeVar("T")
THREADS = 4


class Reports:
    """`await reports(query)` runs a synchronous query with a read-only connection. Raises `NotReady`."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="reports")
        self._own = local()
        self._readers: list[Reader] = []

    async def __call__(self, query: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, query)

    def _run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        reader: Reader | None = getattr(self._own, "reader", None)
        if reader is None:
            reader = self._own.reader = Reader(self._data_dir)
            self._readers.append(reader)
        return query(reader.rows())

    def close(self) -> None:
        """Wait for what runs, and let the file go."""
        self._threads.shutdown()
        for reader in self._readers:
            reader.close()
