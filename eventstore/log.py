"""The log, as everything else sees it: five verbs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Protocol

from eventstore.envelope import Appended, NewFrames, Recorded, RecordedEvent, RecordedFrames, StreamWrite


class Log(Protocol):
    """An append-only log. Implementations: `SQLiteLog` (durable), `MemoryLog` (the reference, for tests)."""

    @property
    def origin(self) -> str:
        """Who writes: node id plus an incarnation that is new at every start, `[a-z0-9]+`."""

    @property
    def full(self) -> bool:
        """Whether new work is refused because the disk is nearly full. It passes by itself."""

    @property
    def held(self) -> bool:
        """Whether new work is refused because another process holds a lock on the log. It passes by itself."""

    @property
    def dropped(self) -> int:
        """The position up to which history was dropped, or is just being: what is read may begin behind it."""

    def append(
        self,
        *writes: StreamWrite,
        frames: Sequence[NewFrames] = (),
        blobs: Sequence[bytes] = (),
        admit: bool = False,
    ) -> Awaitable[Appended]:
        """Write blobs, then frames, then events, in one commit; the awaitable is done when they are durable.

        Positions of one append are consecutive. `admit=True` marks new work, which a full queue or disk refuses.
        Raises at the call: `LogBusy`, `LogFull`, `LogHeld`, `LogClosed`. Raises when awaited: `WrongExpectedVersion`
        (nothing written), `LogHeld` for new work (the same), `LogUnavailable` (the process must stop).
        """

    async def read(self, after: int, limit: int, *, until: int | None = None, frames: bool = True) -> list[Recorded]:
        """Rows of both lanes (or of the ledger alone) with `after < position <= until`, in order, at most `limit`."""

    async def read_stream(self, stream: str, after: int = 0) -> list[RecordedEvent]:
        """The events of one stream with `version > after`, in order; empty if there is no such stream. Raises
        `LogCorrupt` where one of them is not as it was written."""

    async def read_frames(self, generation: int, until: int, after: int = 0) -> list[RecordedFrames]:
        """The rows of one run with `after < position <= until`, in order. Found backwards from its newest row, along
        `back`: give an `until` near it (the position of the event that closed the run, or `FrameRun.last_position`)."""

    async def read_blob(self, digest: bytes) -> bytes:
        """The bytes with this sha256. Raises `KeyError` if there are none, `LogCorrupt` if they are damaged."""

    async def head(self) -> int:
        """The position of the last durable row, 0 for an empty log."""

    def follow(self, after: int) -> AsyncIterator[int]:
        """Yield the head now if it is past `after`, and then whenever it has moved; many commits may be one step."""
