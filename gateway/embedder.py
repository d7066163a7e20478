"""Texts as vectors, for the server's own use: by the embedding model that `embedding_model` names, in its worker
process, so that the event loop goes on meanwhile. The same process serves clients that ask for that model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from gateway.upstreams.local import found
from gateway.upstreams.local.family import Library
from gateway.upstreams.local.host import Host
from gateway.upstreams.local.process import Refused
from gateway.upstreams.upstream import UpstreamFailure

PROVIDER = "huggingface"
"""Whose model it is, in the events of its loading."""
LONGEST = 4000
"""Characters of a text that count; the usual models read their first few hundred tokens."""


class CannotEmbed(Exception):
    """There are no vectors; the message says why, and what to do about it."""


class Embedder:
    """`model` is a repository or a directory in `root`, as in huggingface's requests; `library` runs it."""

    def __init__(self, host: Host, library: Library, model: str, root: Path | None) -> None:
        self._host, self._library, self._model, self._root = host, library, model, root

    def check(self) -> None:
        """Raises `CannotEmbed` where packages are missing."""
        if not found.installed(self._library.packages):
            raise CannotEmbed(self._library.missing())

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector for each; the first call loads the model. Raises `CannotEmbed`."""
        self.check()
        place = await asyncio.to_thread(found.place_of, self._model, self._root)
        if place is None:
            raise CannotEmbed(f"There is no embedding model {self._model!r} here: see ABSTRACTCORE_EMBEDDING_MODEL.")
        try:
            return await self._asked(place, [text[:LONGEST] for text in texts])
        except (Refused, UpstreamFailure) as error:
            raise CannotEmbed(f"The embedding model {self._model!r} gave no vectors: {error}") from error

    async def _asked(self, place: found.Place, texts: list[str]) -> list[list[float]]:
        """Raises `Refused`, `UpstreamFailure`."""
        slot, process = await self._host.acquire(PROVIDER, self._library.engine, self._model, place)
        inbox = process.ask({"embed": {"texts": texts, "dimensions": None}})
        try:
            (message,) = await inbox.take()
        finally:
            process.drop(inbox)
            self._host.release(slot)
        vectors: list[list[float]] = message["vectors"]
        return vectors
