"""Sessions as they are in the log now. What decides about a turn is read from the streams, never from a report.

Streams only grow, and a turn's words never change: what was read is kept for a while, and only what is new is read.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import replace
from typing import Any, Generic, TypeVar

from eventstore.catalogue import decode
from eventstore.catalogue.event import Event
from eventstore.catalogue.values import dumps
from eventstore.envelope import NEW_STREAM, StreamWrite
from eventstore.errors import WrongExpectedVersion
from eventstore.log import Log
from gateway.errors import InvalidRequest
from gateway.exchange.ids import stream_of
from gateway.exchange.recorded import whole_body
from gateway.sessions.errors import NoSession, SessionBusy
from gateway.sessions.fitting import Words, files_of, tokens_of
from gateway.sessions.said import said
from gateway.sessions.state import Family, Session, Turn, fold

SESSIONS_KEPT = 1024
WORDS_KEPT = 32 << 20
"""Bytes of turns' messages."""
DEEPEST = 32
"""Forks of forks."""
_ID = re.compile(r"session-[0-9A-Z]{26}", re.ASCII)

T = TypeVar("T")


class Kept(Generic[T]):
    """What was used last, up to `most` in all; each thing has a weight."""

    def __init__(self, most: int) -> None:
        self._most, self._weight = most, 0
        self._things: OrderedDict[str, tuple[T, int]] = OrderedDict()

    def get(self, name: str) -> T | None:
        """The thing, now the newest."""
        found = self._things.get(name)
        if found is None:
            return None
        self._things.move_to_end(name)
        return found[0]

    def put(self, name: str, thing: T, weight: int = 1) -> None:
        """Keep it; the oldest give way."""
        before = self._things.pop(name, None)
        self._weight += weight - (before[1] if before else 0)
        self._things[name] = thing, weight
        while self._weight > self._most:
            self._weight -= self._things.popitem(last=False)[1][1]


class Sessions:
    """Reads sessions, and writes what is no turn. A turn is written with its request (`PlannedTurn`)."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._known: Kept[Session] = Kept(SESSIONS_KEPT)
        self._words: Kept[Words] = Kept(WORDS_KEPT)

    async def find(self, session_id: str) -> Session:
        """The session as it is now. Raises `NoSession`."""
        session = await self._read(session_id) if _ID.fullmatch(session_id) else Session(session_id)
        if session.created is None or session.deleted:
            raise NoSession(session_id)
        return session

    async def family(self, session: Session) -> Family:
        """The session and those that it descends from, deleted ones too."""
        family = [session]
        while family[-1].parent_id is not None:
            family.append(await self._read(family[-1].parent_id))
        return family

    async def open(self, session_id: str, *events: Event) -> None:
        """Record a new session."""
        await self._log.append(StreamWrite(session_id, NEW_STREAM, tuple(event.new() for event in events)), admit=True)

    async def change(self, session: Session, event: Event) -> None:
        """Record what becomes of a session. Raises `SessionBusy` where it is not any more what it was."""
        try:
            await self._log.append(StreamWrite(session.session_id, session.version, (event.new(),)), admit=True)
        except WrongExpectedVersion as moved:
            raise SessionBusy(session.session_id, moved.actual) from moved

    async def words(self, turn: Turn) -> Words:
        """The messages of a turn: those that its request brought, and the answer. Raises `InvalidRequest` where the
        log has them no more."""
        kept = self._words
        known = kept.get(turn.request_id)
        if known is None:
            messages = await self._messages_of(turn.request_id)
            known = Words(messages, tokens_of(messages), files_of(messages))
            kept.put(turn.request_id, known, len(dumps(messages)))
        return known

    def forget(self) -> None:
        """Read all anew: some of it may have left the log. What is being read now is not kept."""
        self._known, self._words = Kept(SESSIONS_KEPT), Kept(WORDS_KEPT)

    async def summary(self, turn: Turn) -> str:
        """The text of a compaction."""
        content: str = (await self.words(turn)).messages[-1]["content"]
        return content

    async def _read(self, session_id: str) -> Session:
        kept = self._known
        known = kept.get(session_id) or Session(session_id)
        new = await self._log.read_stream(session_id, known.version)
        if not new:
            return known
        session = fold(known, map(decode, new))
        session = replace(session, version=new[-1].version)  # of a deleted one the beginning may be dropped
        kept.put(session_id, session)
        return session

    async def _messages_of(self, request_id: str) -> list[dict[str, Any]]:
        events = await self._log.read_stream(stream_of(request_id))
        answers, body = said(events), events[0].body.get("body") if events else None
        if not answers or body is None:
            raise InvalidRequest(
                "A part of this session's history is in the log no more. Rewound to its beginning (clear), it goes on.",
                param="session_id",
                code="history_gone",
            )
        return [*(await whole_body(self._log, body))["messages"], *answers]
