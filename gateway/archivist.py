"""Archiving this server's log: what storage cannot know of it is said here. Used by the running server, and by the tool
where none runs."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from eventstore.archiving import Archiving, Written
from eventstore.catalogue.control import LogRepaired, SegmentsDropped, SegmentSealed
from eventstore.envelope import ANY_VERSION, NewEvent, StreamWrite
from eventstore.errors import LogError
from eventstore.reader import Reader
from eventstore.sqlite import SQLiteLog
from gateway.control import ControlError
from gateway.exchange.runs import leaves_open
from gateway.sessions.restating import restate
from gateway.standing import say_again
from projections.durable import durable_position
from projections.snapshotting import NotTaken, take, tidy

FAILURES = (OSError, sqlite3.Error, LogError, NotTaken)
"""What the disk, the log, the projections' database or a projection may refuse."""


class Archivist:
    """Archives and drops on demand, one thing at a time. `previous` is cited by the events where the log was opened
    only for this (see `NodeStarted`); `on_drop` is called after each drop."""

    archiving = Archiving
    """The class that does it; tests prove its worth with broken ones."""

    def __init__(
        self,
        log: SQLiteLog,
        data_dir: Path,
        previous: dict[str, Any] | None = None,
        on_drop: Callable[[], None] = lambda: None,
    ) -> None:
        self._log, self._data_dir, self._previous, self._on_drop = log, data_dir, previous, on_drop
        self._folded = 0
        self._snapshot: tuple[str | None, str | None] = None, None
        self._archiving = self.archiving(log, data_dir, leaves_open, self._sealed, self._dropped)
        self._busy = asyncio.Lock()

    async def asked(self, command: str, until: Any) -> Mapping[str, Any]:
        """`archive` or `drop` rows up to a position. Raises `ControlError`."""
        if type(until) is not int or until < 0:
            raise ControlError("until is not a position")
        if self._busy.locked():
            raise ControlError("the archive is being worked on; try again later")
        async with self._busy:
            try:
                return await (self.archive(until) if command == "archive" else self.drop(until))
            except FAILURES as error:
                raise ControlError(f"{type(error).__name__}: {error}") from error

    async def repaired(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Record that archived rows were made again: positions of `events` and of `frames`. Raises `ControlError`."""
        events, frames = request.get("events"), request.get("frames")
        if not (_is_positions(events) and _is_positions(frames)):
            raise ControlError("events and frames are not positions")
        origin = self._log.origin
        event = LogRepaired(node=origin[:9], events=events, frames=frames)
        try:
            await self._log.append(StreamWrite(f"node-{origin}", ANY_VERSION, (event.new(),)))
        except LogError as error:
            raise ControlError(f"{type(error).__name__}: {error}") from error
        return {}

    async def archive(self, until: int) -> dict[str, Any]:
        """`{segments: [{name, first, through, events, frames, size}]}` of what was archived."""
        done = await self._archiving.archive(until)
        shown = ("name", "first", "through", "events", "frames", "size")
        return {"segments": [{name: getattr(written, name) for name in shown} for written in done]}

    async def drop(self, until: int) -> dict[str, Any]:
        """`{dropped: [names], folded: position}`: whole segments that every projection has folded for good, and
        of which the snapshot holds what tables made of them, and later events how sessions stand, and what was
        configured while the server ran."""
        self._folded = await asyncio.to_thread(durable_position, self._data_dir)
        dropped = await self._archiving.drop(until, self._folded, self._keep)
        self._on_drop()
        await asyncio.to_thread(self._tidy)
        return {"dropped": dropped, "folded": self._folded}

    async def _keep(self, through: int) -> None:
        self._snapshot = await asyncio.to_thread(self._taken, through)
        with Reader(self._data_dir) as reader:
            await restate(self._log, reader, through)
            await say_again(self._log, reader, through)

    def _taken(self, through: int) -> tuple[str, str]:
        with Reader(self._data_dir) as reader:
            return take(self._data_dir, reader, through)

    def _tidy(self) -> None:
        with Reader(self._data_dir) as reader:
            tidy(self._data_dir, reader)

    def _sealed(self, written: Written) -> NewEvent:
        return SegmentSealed(
            segment=written.name,
            through=written.through,
            head_digest=written.head_digest,
            first=written.first,
            digest=written.digest,
            events=written.events,
            frames=written.frames,
            previous=self._cited(),
        ).new()

    def _dropped(self, names: list[str], through: int) -> NewEvent:
        snapshot, digest = self._snapshot
        return SegmentsDropped(
            through=through,
            segments=names,
            folded=self._folded,
            previous=self._cited(),
            snapshot=snapshot,
            snapshot_digest=digest,
        ).new()

    def _cited(self) -> dict[str, Any] | None:
        """For the first event that is said here alone."""
        previous, self._previous = self._previous, None
        return previous


def _is_positions(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(position) is int and position > 0 for position in value)
