"""What goes on beside the answers for as long as the server runs. Work that fails says so, and is begun again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

AGAIN_S = 5.0
"""How long after a failure work is begun again."""
STEADY_S = 60.0
"""How long it must then have gone on, to be well."""

Work = Callable[[], Coroutine[Any, Any, None]]
"""Begins it. It goes on for ever, or ends when it is done; it raises what nobody foresaw."""

logger = logging.getLogger(__name__)


class Works:
    """Tasks by their names, which /health shows. `monotonic`: seconds on a clock that never goes back."""

    again_s = AGAIN_S
    """Tests wait less."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._tasks: list[asyncio.Task[None]] = []
        self._failed_at: dict[str, float] = {}

    def begin(self, name: str, work: Work) -> None:
        """Keep it going until `end`."""
        self._tasks.append(asyncio.create_task(self._kept(name, work)))

    def end(self) -> None:
        """End all of them."""
        for task in self._tasks:
            task.cancel()

    def ails(self) -> list[str]:
        """Which have failed of late, in words for everybody."""
        since = self._monotonic() - STEADY_S
        return [
            f"{name}: it failed, and is begun again: see the server's log"
            for name, failed_at in self._failed_at.items()
            if failed_at > since
        ]

    async def _kept(self, name: str, work: Work) -> None:
        while True:
            try:
                return await work()
            except Exception:
                logger.exception("%s failed, and is begun again in %g s", name, self.again_s)
            self._failed_at[name] = self._monotonic()
            await asyncio.sleep(self.again_s)
