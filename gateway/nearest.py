"""Questions like one that is asked, from the log: their vectors are events, and what is kept of them here is a copy
that can be read again at any time.

Importing this needs numpy, which the embedding libraries bring.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from eventstore.envelope import RecordedEvent, StreamWrite
from eventstore.log import Log
from gateway.embedder import CannotEmbed
from gateway.exchange.alike import Near, Question, embedded, packed, recorded_vector, stream_for
from gateway.exchange.claims import recorded_at

NEWEST = 2_000
"""Questions of one stream that are compared; the oldest go first."""
KEPT = 20_000
"""Vectors in memory, of all streams; what was not asked for longest is read again when it is."""
BEST = 4
"""How many of the most alike are named: those whose answers are gone or too old are of no use."""

logger = logging.getLogger(__name__)


class Embeds(Protocol):
    """Makes vectors; see `gateway.embedder.Embedder`."""

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector for each. Raises `CannotEmbed`."""


@dataclass(slots=True)
class _Stream:
    """What is known of one stream, up to a version: its newest questions, and their vectors as the rows of a matrix."""

    version: int = 0
    events: list[RecordedEvent] = field(default_factory=list)
    vectors: Any = None

    def take(self, events: Sequence[RecordedEvent], vectors: Any) -> None:
        """What was read behind some version; others may have read the same in the meantime."""
        new = sum(event.version > self.version for event in events)
        if not new:
            return
        if self.vectors is not None and self.vectors.shape[1] == vectors.shape[1]:
            self.events = [*self.events, *events[-new:]][-NEWEST:]
            self.vectors = np.concatenate([self.vectors, vectors[-new:]])[-NEWEST:]
        else:  # the first, or of another model under the same name
            self.events, self.vectors = list(events[-new:]), vectors[-new:]
        self.version = events[-1].version

    def most_alike(self, vector: Any, threshold: float, incarnation: str) -> list[Near]:
        """The best first; their times for this incarnation."""
        if self.vectors is None or self.vectors.shape[1] != len(vector):
            return []
        cosines = self.vectors @ vector
        best = np.argsort(-cosines, kind="stable")[:BEST]
        return [_near(self.events[i], incarnation, float(cosines[i])) for i in best if cosines[i] >= threshold]


def _near(event: RecordedEvent, incarnation: str, cosine: float) -> Near:
    return Near(event.body["request_id"], recorded_at(event, incarnation), round(min(cosine, 1.0), 4))


def _floats(vector: bytes) -> Any:
    return np.frombuffer(vector, "<f2").astype(np.float32)


def _newest(events: Sequence[RecordedEvent]) -> tuple[Sequence[RecordedEvent], Any]:
    """The last of them whose vectors have the newest one's length, and those as a matrix."""
    vectors = [_floats(recorded_vector(event.body)) for event in events[-NEWEST:]]
    same = [i for i, vector in enumerate(vectors) if len(vector) == len(vectors[-1])]
    return [events[-len(vectors) :][i] for i in same], np.stack([vectors[i] for i in same])


class Nearest:
    """`model` is the name of what `embedder` runs. `well`: it gave vectors when it was asked last; `known`: what is in
    memory, by stream."""

    patience_s = 2.0
    """How long a request waits for its vector: while a model is loaded, requests go on without."""

    def __init__(self, log: Log, embedder: Embeds, model: str) -> None:
        self._log, self._embedder, self._model = log, embedder, model
        self.known: OrderedDict[str, _Stream] = OrderedDict()
        self.well = True

    async def warm(self) -> None:
        """Have the model loaded before somebody waits for it."""
        await self._embed("warm")

    async def vector(self, question: Question) -> bytes | None:
        """The question's vector; None where there is none, or not in time."""
        try:
            async with asyncio.timeout(self.patience_s):
                return await self._embed(question.text)
        except TimeoutError:
            return None

    async def like(self, question: Question, vector: bytes) -> list[Near]:
        """Who asked something alike, the most alike first."""
        if question.fresh:
            return []
        name = self.stream(question)
        known = self.known.get(name) or _Stream()  # most are asked for once, and never have a question: none is kept
        if events := await self._log.read_stream(name, known.version):
            known.take(*await asyncio.to_thread(_newest, events))
        if known.events:
            self.known[name] = known
            self.known.move_to_end(name)
            self._make_room()
        return known.most_alike(_floats(vector), question.threshold, self._log.origin)

    def mark(self, question: Question, request_id: str, vector: bytes, at: int) -> StreamWrite:
        """What makes a request one that others can be like, from a time on the steady clock on."""
        return embedded(self.stream(question), request_id, question, self._model, vector, at)

    def stream(self, question: Question) -> str:
        """Where it and all that can be like it stand."""
        return stream_for(question, self._model)

    def ails(self) -> list[str]:
        """What is not well, in words for everybody."""
        return [] if self.well else ["semantic cache: its embedding model gives no vectors"]

    async def _embed(self, text: str) -> bytes | None:
        try:
            (vector,) = await self._embedder.embed([text])
        except CannotEmbed as error:
            if self.well:
                logger.warning("the semantic cache rests: %s", error)
            self.well = False
            return None
        self.well = True
        return packed(vector)

    def _make_room(self) -> None:
        held = sum(len(known.events) for known in self.known.values())
        while held > KEPT and len(self.known) > 1:
            held -= len(self.known.popitem(last=False)[1].events)
