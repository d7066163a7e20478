"""What a drop would take from sessions that go on is said again before: how each was opened and where it stands. What
was said in their turns is not: it goes with the archive."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import groupby, islice

from eventstore.catalogue import decode
from eventstore.envelope import RecordedEvent, StreamWrite
from eventstore.errors import WrongExpectedVersion
from eventstore.log import Log
from eventstore.reader import Reader
from gateway.sessions.state import Session, fold, restated

PREFIX = "session-"
"""What the streams of sessions begin with."""
PAGE = 2_000
"""Events that are folded at once."""
AT_ONCE = 500
"""Sessions that are said again at once."""


async def restate(log: Log, reader: Reader, through: int) -> None:
    """Record what would be lost of sessions with the events up to a position. Raises `LogError`."""
    lost = await asyncio.to_thread(_lost, reader, through)
    for start in range(0, len(lost), AT_ONCE):
        await asyncio.gather(*(_restate(log, session) for session in lost[start : start + AT_ONCE]))


async def _restate(log: Log, session: Session) -> None:
    while True:
        try:
            await log.append(StreamWrite(session.session_id, session.version, (restated(session).new(),)))
        except WrongExpectedVersion:  # it was used meanwhile
            session = fold(session, map(decode, await log.read_stream(session.session_id, session.version)))
        else:
            return


def _lost(reader: Reader, through: int) -> list[Session]:
    """The sessions with an event up to `through`, those apart that nobody can use any more."""
    sessions: dict[str, Session] = {}
    older: set[str] = set()
    events = _events(reader)
    while page := sorted(islice(events, PAGE), key=_stream):  # an order of its own within each stream stays
        for stream, found in groupby(page, key=_stream):
            its = list(found)
            sessions[stream] = fold(sessions.get(stream) or Session(stream), map(decode, its))
            if its[0].position <= through:
                older.add(stream)
    used = _used(sessions)
    return [session for name, session in sessions.items() if name in older and name in used]


def _used(sessions: dict[str, Session]) -> set[str]:
    """Those that are not deleted, and those that they were forked from."""
    used: set[str] = set()
    for session in sessions.values():
        at: Session | None = None if session.deleted else session
        while at is not None and at.created is not None and at.session_id not in used:
            used.add(at.session_id)
            at = sessions.get(at.parent_id or "")
    return used


def _events(reader: Reader) -> Iterator[RecordedEvent]:
    return (event for event in reader.events(reader.dropped()) if event.stream.startswith(PREFIX))


def _stream(event: RecordedEvent) -> str:
    return event.stream
