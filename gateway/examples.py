"""The examples of routes, as vectors: made before a configuration holds, compared with each request's last words."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from gateway.embedder import CannotEmbed, Embedder
from gateway.routing.chat import last_user_text
from gateway.routing.semantic import Vector, likeness
from gateway.routing.virtual import BadConfiguration, Virtual

PATIENCE_S = 10.0
"""So long a request waits for its vector; then it goes on its way without."""
BATCH = 64
"""So many examples are embedded at once, so that clients' texts get their turn between."""

logger = logging.getLogger(__name__)


class Examples:
    """The vectors of all examples that hold now, and of those that are about to."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._vectors: Mapping[str, Vector] = {}
        self._last: Collection[str] = ()

    async def learn(self, models: Iterable[Virtual]) -> None:
        """Embed the examples of these models that are new. Raises `BadConfiguration` where that cannot be done here."""
        texts = {text: None for virtual in models for examples in virtual.examples.values() for text in examples}
        try:
            found = await self._embedded([text for text in texts if text not in self._vectors])
        except CannotEmbed as error:
            raise BadConfiguration(f"the examples of its routes cannot be embedded: {error}") from error
        known = {**self._vectors, **found}
        self._vectors = {text: known[text] for text in (*self._last, *texts)}
        self._last = texts

    async def _embedded(self, texts: Sequence[str]) -> dict[str, Vector]:
        """Raises `CannotEmbed`."""
        found: dict[str, Vector] = {}
        for start in range(0, len(texts), BATCH):
            batch = texts[start : start + BATCH]
            found.update(zip(batch, await self._embedder.embed(batch), strict=True))
        return found

    async def compare(self, virtual: Virtual, chat: Mapping[str, Any]) -> tuple[dict[str, float] | None, str | None]:
        """How like the chat's last user text is to each model's examples; else None, and why not: `no_text` or
        `no_vector`."""
        if not (text := last_user_text(chat).strip()):
            return None, "no_text"
        known = {model: [self._vectors[each] for each in texts] for model, texts in virtual.examples.items()}
        try:
            async with asyncio.timeout(PATIENCE_S):
                (vector,) = await self._embedder.embed([text])
        except (CannotEmbed, TimeoutError) as error:
            logger.warning("a request for %s was compared with no examples: %s", virtual.name, error or "it took long")
            return None, "no_vector"
        return await asyncio.to_thread(likeness, vector, known), None
