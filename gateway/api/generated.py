"""The frames lane for readers: rows of any generation, in any mixture, as flat `token_generated` objects."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from eventstore.envelope import RecordedEvent, RecordedFrames
from eventstore.errors import LogCorrupt
from eventstore.log import Log
from gateway.exchange.tokens import TokenComposer

RUNS_REMEMBERED = 256


class TokenReader:
    """Composes rows as they come by, each run's in order. A run that was joined in its middle, or forgotten because
    256 others were newer, is read again from its beginning: what a frame means depends on those before it."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._runs: OrderedDict[int, TokenComposer] = OrderedDict()

    async def objects(self, row: RecordedFrames) -> list[dict[str, Any]]:
        """The object of each frame in the row; none of a run whose beginning was dropped. Raises `LogCorrupt` where the
        run is damaged."""
        composer = self._runs.pop(row.generation, None) or await self._joined(row)
        if composer is None:
            return []
        self._runs[row.generation] = composer
        if len(self._runs) > RUNS_REMEMBERED:
            self._runs.popitem(last=False)
        return composer.compose(row)

    async def _joined(self, row: RecordedFrames) -> TokenComposer | None:
        found = await self._log.read(row.generation - 1, 1, until=row.generation)
        if row.generation <= self._log.dropped:
            return None
        if not found or not isinstance(found[0], RecordedEvent):
            raise LogCorrupt(row.position, f"no generation began at {row.generation}")
        composer = TokenComposer(found[0])
        if row.frame > 1:
            for earlier in await self._log.read_frames(row.generation, until=row.position - 1):
                composer.compose(earlier)
        return composer
