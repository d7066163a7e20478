"""A log for projections to read: real envelopes and chains over a list, with frames in between."""

from __future__ import annotations

from hashlib import sha256
from itertools import islice
from typing import Any

import orjson

from eventstore.catalogue import Event
from eventstore.chain import Chain
from eventstore.envelope import NewEvent, Recorded, RecordedEvent, RecordedFrames

START = 1_795_255_200_000_000
"""2026-11-21T10:00:00Z, microseconds."""


class Ledger:
    """`projections.projection.Source` over what a test put into it."""

    def __init__(self, origin: str = "n1i1") -> None:
        self._chain = Chain(origin)
        self._versions: dict[str, int] = {}
        self._blobs: dict[bytes, bytes] = {}
        self.rows: list[Recorded] = []
        self.now = START

    def add(self, *events: Event, stream: str | None = None) -> list[RecordedEvent]:
        """Record events, a millisecond apart, each on its session's or its request's stream (or `node-n1`)."""
        return [self._record(event.new(), stream or _stream(event)) for event in events]

    def add_raw(self, type_: str, fields: dict[str, Any], stream: str, schema: int = 1) -> RecordedEvent:
        """Record what the catalogue would not: a poison, or an event of a later release."""
        return self._record(NewEvent(type_, schema, orjson.dumps(fields)), stream)

    def add_frames(self, rows: int) -> None:
        """Rows of the frames lane, which take positions and no projection reads."""
        for _ in range(rows):
            self.rows.append(RecordedFrames(len(self.rows) + 1, 1, 0, 1, 1, 0, 0, b"data: {}"))

    def add_blob(self, value: Any) -> dict[str, str]:
        """Store a part of a body; what stands in its place."""
        data = orjson.dumps(value)
        self._blobs[sha256(data).digest()] = data
        return {"$blob": sha256(data).hexdigest()}

    def cut(self, head: int) -> Ledger:
        """A copy of the log as it was when its head was there: a restored backup."""
        copy = Ledger()
        copy.rows, copy._blobs = self.rows[:head], self._blobs
        return copy

    def _record(self, new: NewEvent, stream: str) -> RecordedEvent:
        version = self._versions[stream] = self._versions.get(stream, 0) + 1
        self.now += 1_000
        chain = self._chain
        data = chain.link(new, stream, version, self.now)
        position = len(self.rows) + 1
        event = RecordedEvent(
            position, chain.origin, chain.oseq, stream, version, new.type, chain.at, 0, data, chain.digest
        )
        self.rows.append(event)
        return event

    def head(self) -> int:
        return len(self.rows)

    def read(self, after: int, limit: int, *, until: int | None = None, frames: bool = True) -> list[Recorded]:
        wanted = self.rows[after:until]
        return list(islice((row for row in wanted if frames or isinstance(row, RecordedEvent)), limit))

    def read_stream(self, stream: str, after: int = 0) -> list[RecordedEvent]:
        return [r for r in self.rows if isinstance(r, RecordedEvent) and r.stream == stream and r.version > after]

    def read_blob(self, digest: bytes) -> bytes:
        return self._blobs[digest]

    def dropped(self) -> int:
        return 0

    def snapshot(self) -> None:
        return None


def _stream(event: Event) -> str:
    if event.type.startswith("session_"):
        return str(event.session_id)  # type: ignore[attr-defined]  # all of them have one
    request_id = getattr(event, "request_id", None)
    return "node-n1" if request_id is None else f"request-{request_id}"
