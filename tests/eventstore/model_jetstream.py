"""A model of a JetStream server, in memory, as simple as the relay's questions allow; and what can go wrong with it."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, Literal

from eventstore.jetstream import JetStream, Message, NoAnswer, Stored, StreamState, WrongLastSequence

Fate = Literal["lost", "unheard", "late"]
"""Of a batch whose sender gets no answer: it is not stored, or it is, or it will be when `Server.arrives`."""


@dataclass(frozen=True)
class Stream:
    """What it holds, in its order. `last` is the newest sequence that it ever gave."""

    created: str
    subjects: frozenset[str]
    max_age_s: float
    last: int = 0
    messages: tuple[Stored, ...] = ()

    def under(self, subject: str | None) -> list[Stored]:
        """The messages under `a.b.*.origin`, or under a subject that ends in `>`."""
        if subject is None or subject.endswith(">"):
            return list(self.messages)
        origin = subject.rpartition(".")[2]
        return [stored for stored in self.messages if stored.subject.rpartition(".")[2] == origin]


Batch = tuple[Sequence[Message], str, int | None]
"""Messages, the subject of the fence, and the sequence that its newest message must have (None: no fence)."""


@dataclass
class Server:
    """What is stored. `fates` are those of the next batches, `under_way` the batches that are late."""

    streams: dict[str, Stream] = field(default_factory=dict)
    fates: deque[Fate] = field(default_factory=deque)
    under_way: deque[Batch] = field(default_factory=deque)
    connections: set[ModelJetStream] = field(default_factory=set)
    _created: Callable[[], int] = field(default_factory=lambda: count().__next__)

    def ensure(self, config: Mapping[str, Any], initial: Mapping[str, Any]) -> None:
        """As `JetStream.ensure_stream`."""
        name, subjects = config["name"], frozenset(config["subjects"])
        found = self.streams.get(name)
        if found is None:
            age_s = {**initial, **config}.get("max_age", 0) / 1e9
            found = Stream(str(self._created()), subjects, age_s)
        self.streams[name] = replace(found, subjects=found.subjects | subjects)

    def store(self, batch: Batch) -> int:
        """All of it or nothing; the newest sequence. Raises `WrongLastSequence`, or `NoAnswer` without a stream."""
        messages, fence, expected = batch
        covers = f"{messages[0].subject.rpartition('.')[0]}.*"
        name = next((name for name, stream in self.streams.items() if covers in stream.subjects), None)
        if name is None:
            raise NoAnswer("nobody stores this subject")
        stream = self.streams[name]
        newest = max((stored.sequence for stored in stream.under(fence)), default=0)
        if expected is not None and expected != newest:
            raise WrongLastSequence(f"wrong last sequence: {newest}")
        stored = (Stored(n, m.subject, dict(m.headers), m.payload) for n, m in enumerate(messages, stream.last + 1))
        last = stream.last + len(messages)
        self.streams[name] = replace(stream, last=last, messages=(*stream.messages, *stored))
        return last

    def arrives(self) -> None:
        """The oldest batch that is late, at last, if there is one."""
        if not self.under_way:
            return
        try:
            self.store(self.under_way.popleft())
        except (WrongLastSequence, NoAnswer):
            pass  # nobody is there who could be told

    def became(self, streams: Mapping[str, Stream]) -> None:
        """Another store is put in the place of this one, and the server started again."""
        self.streams = dict(streams)
        for connection in self.connections:
            connection.gone.set()
        self.connections.clear()


class ModelJetStream(JetStream):
    """A connection to a model; as `JetStream` in all that the relay asks."""

    fenced = True

    def __init__(self, server: Server) -> None:
        self.server, self.gone = server, asyncio.Event()
        server.connections.add(self)

    @property
    def max_message_bytes(self) -> int:
        return 1 << 20

    async def closed(self) -> None:
        await self.gone.wait()

    async def close(self) -> None:
        self.gone.set()
        self.server.connections.discard(self)

    async def ensure_stream(self, config: Mapping[str, Any], initial: Mapping[str, Any]) -> None:
        await self._answers()
        self.server.ensure(config, initial)

    async def state(self, stream: str) -> StreamState:
        held = await self._held(stream)
        first = held.messages[0].sequence if held.messages else held.last + 1
        return StreamState(held.created, first, held.last, held.max_age_s, crowded=False)

    async def subjects(self, stream: str, subject: str) -> dict[str, int]:
        return Counter(stored.subject for stored in (await self._held(stream)).under(subject))

    async def purge(self, stream: str, subject: str | None) -> None:
        held = await self._held(stream)
        dropped = held.under(subject)
        left = tuple(stored for stored in held.messages if stored not in dropped)
        self.server.streams[stream] = replace(held, messages=left)

    async def last(self, stream: str, subject: str) -> Stored | None:
        return next(reversed((await self._held(stream)).under(subject)), None)

    async def next(self, stream: str, subject: str, sequence: int) -> Stored | None:
        found = (await self._held(stream)).under(subject)
        return next((stored for stored in found if stored.sequence >= sequence), None)

    async def read(self, stream: str, sequence: int, limit: int) -> list[Stored]:
        return [stored for stored in (await self._held(stream)).messages if stored.sequence >= sequence][:limit]

    async def publish_batch(self, messages: Sequence[Message], fence: str, last_sequence: int) -> int:
        await self._answers()
        batch = messages, fence, last_sequence if self.fenced else None
        fate = self.server.fates.popleft() if self.server.fates else None
        if fate == "late":
            self.server.under_way.append(batch)
        elif fate != "lost":
            sequence = self.server.store(batch)
            if fate is None:
                return sequence
        raise NoAnswer("no answer")

    async def _held(self, stream: str) -> Stream:
        await self._answers()
        if stream not in self.server.streams:
            raise NoAnswer("there is no such stream")
        return self.server.streams[stream]

    async def _answers(self) -> None:
        await asyncio.sleep(0)
        if self.gone.is_set():
            raise NoAnswer("the connection is gone")
