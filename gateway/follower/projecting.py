"""Keeps the projections at the head of the log, in a thread of its own, so that the relay beside it goes on."""

from __future__ import annotations

import asyncio
import errno
import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from eventstore.errors import LogError
from eventstore.head import Head
from eventstore.reader import Reader
from eventstore.space import RESERVE, free_bytes
from projections.checkpoint import CheckpointMoved
from projections.engine import Engine

T = TypeVar("T")
FAILURES = (OSError, sqlite3.Error, LogError, CheckpointMoved)
"""What the surroundings do to the engine; it goes on later from where it was."""

logger = logging.getLogger(__name__)

IDLE_S = 1.0
"""Even without news the engine looks this often: it mends what was deleted from under it."""
RETRY_S = 0.5


class Projecting:
    """Runs the engine. `status` is `{name: {position, version, halted}}`; `error` is what the disk or log refused;
    `rebuilt` is, by projection, the number of the last `rebuild` that was begun."""

    def __init__(self, data_dir: Path, head: Head, changed: Callable[[], None]) -> None:
        self._data_dir, self._head, self._changed = data_dir, head, changed
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="projections")
        self._reader: Reader | None = None
        self._engine: Engine | None = None
        self._advanced = asyncio.Event()
        self._reached = 0
        self.rebuilt: dict[str, int] = {}
        self.status: dict[str, dict[str, Any]] = {}
        self.error: str | None = None

    async def run(self) -> None:
        """Fold until cancelled."""
        while True:
            target = self._head.position
            try:
                await self._fold()
            except FAILURES as e:
                self._fail(e)
                await asyncio.sleep(RETRY_S)
                continue
            self._settle(target)
            await self._head.past(target, IDLE_S)

    async def rebuild(self, name: str, number: int) -> None:
        """Put this projection back to the beginning and fold the log into it again."""
        try:
            status = await self._in_thread(lambda: self._restart(name))
            self.rebuilt[name] = number
            self._show(status)
            await self._fold()
        except FAILURES as e:
            self._fail(e)

    async def flush(self, timeout_s: float) -> bool:
        """Wait until all is folded up to the head, at most `timeout_s`. Returns whether it is."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._reached < self._head.position:
                    await self._advanced.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Let the files go, after the batch under way; `run` must have been cancelled."""
        await self._in_thread(self._close)
        self._thread.shutdown(wait=False)

    async def _fold(self) -> None:
        """Fold up to the head, one batch after the other, each told as soon as it is done."""
        more = True
        while more:
            more, status = await self._in_thread(self._step)
            if status != self.status or self.error:
                self._show(status)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _show(self, status: dict[str, dict[str, Any]]) -> None:
        self.status, self.error = status, None
        self._changed()

    def _open(self) -> Engine:
        if self._engine is None:
            self._reader = self._reader or Reader(self._data_dir)
            self._engine = Engine(self._data_dir, self._reader)
        return self._engine

    def _step(self) -> tuple[bool, dict[str, dict[str, Any]]]:
        if free_bytes(self._data_dir) < RESERVE:
            raise OSError(errno.ENOSPC, "what room is left is the log's")
        engine = self._open()
        return engine.step(), engine.status()

    def _restart(self, name: str) -> dict[str, dict[str, Any]]:
        engine = self._open()
        engine.rebuild(name)
        return engine.status()

    def _close(self) -> None:
        for held in (self._engine, self._reader):
            if held is not None:
                held.close()

    def _settle(self, position: int) -> None:
        self._reached = position
        self._advanced.set()
        self._advanced = asyncio.Event()

    def _fail(self, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        if text != self.error:
            logger.warning("the projections stand still: %s", text)
            self.error = text
            self._changed()
