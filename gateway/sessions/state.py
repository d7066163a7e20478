"""What is known of a session: a fold of its stream, and with its parents' the conversation up to any of its turns.

Turns form a tree: each names the one that it goes on from. A rewind moves the tip, a fork begins at a turn of another
session, and no turn is ever copied. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import Any

from eventstore.catalogue.event import Event
from eventstore.catalogue.session import (
    SessionCleared,
    SessionCompacted,
    SessionCreated,
    SessionDeleted,
    SessionForked,
    SessionRestated,
    SessionTurnAbandoned,
    SessionTurnCompleted,
    SessionTurnStarted,
)
from eventstore.value import value


@value
class Turn:
    """A turn that is part of the conversation. Its words are in its request's events. `kept` is None but for a summary:
    there it counts the turns before it that still stand beside it."""

    number: int
    request_id: str
    before: int
    kept: int | None = None


@value
class Session:
    """A session after some of its events. `tip` is the turn that it goes on from, 0 for its beginning; `newest` the
    highest number that was ever used; `open` the turn that is going on. `parent_id` and `at` say what it was forked
    from. `created` is None as long as nothing is known of it."""

    session_id: str
    version: int = 0
    created: SessionCreated | None = None
    parent_id: str | None = None
    at: int = 0
    turns: Mapping[int, Turn] = field(default_factory=dict)
    tip: int = 0
    newest: int = 0
    open: SessionTurnStarted | None = None
    deleted: bool = False


def fold(session: Session, events: Iterable[Event]) -> Session:
    """The session after these events of its stream, in their order."""
    s, turns = session, dict(session.turns)
    for event in events:
        s = _after(s, turns, event)
        s = replace(s, version=s.version + 1)
    return replace(s, turns=turns)


def restated(session: Session) -> SessionRestated:
    """The event that says all of this, where the events that said it may be lost. It is known how it was opened."""
    assert session.created is not None
    turns = [
        {"number": turn.number, "request_id": turn.request_id, "before": turn.before}
        | ({} if turn.kept is None else {"kept": turn.kept})
        for turn in session.turns.values()
    ]
    return SessionRestated(
        **{name: getattr(session.created, name) for name in SessionCreated.NAMES},
        after=session.version,
        parent_id=session.parent_id,
        at=session.at,
        turns=turns,
        tip=session.tip,
        newest=session.newest,
        open=None if session.open is None else SessionTurnStarted.SAID(session.open),
        deleted=session.deleted,
    )


def _after(s: Session, turns: dict[int, Turn], event: Event) -> Session:
    if isinstance(event, SessionTurnStarted):
        return replace(s, open=event, newest=event.turn)
    if isinstance(event, (SessionTurnCompleted, SessionCompacted)):
        return _joined(s, turns, event)
    if isinstance(event, SessionTurnAbandoned):
        return replace(s, open=None)
    if isinstance(event, SessionCreated):
        return replace(s, created=event)
    if isinstance(event, SessionForked):
        return replace(s, parent_id=event.parent_id, at=event.at, tip=event.at, newest=event.at)
    if isinstance(event, SessionCleared):
        return replace(s, tip=event.at)
    if isinstance(event, SessionDeleted):
        return replace(s, deleted=True)
    if isinstance(event, SessionRestated):
        return _again(turns, event)
    return s


def _joined(s: Session, turns: dict[int, Turn], event: SessionTurnCompleted | SessionCompacted) -> Session:
    before = s.open.before if s.open is not None else s.tip
    kept = event.kept if isinstance(event, SessionCompacted) else None
    turns[event.turn] = Turn(event.turn, event.request_id, before, kept)
    return replace(s, open=None, tip=event.turn)


def _again(turns: dict[int, Turn], event: SessionRestated) -> Session:
    turns.clear()
    turns.update((turn["number"], Turn(**turn)) for turn in event.turns)
    return Session(
        event.session_id,
        version=event.after,
        created=SessionCreated(**{name: getattr(event, name) for name in SessionCreated.NAMES}),
        parent_id=event.parent_id,
        at=event.at,
        tip=event.tip,
        newest=event.newest,
        open=None if event.open is None else SessionTurnStarted.of(event.open),
        deleted=event.deleted,
    )


Family = Sequence[Session]
"""A session, the one that it was forked from, and so on."""


def known(family: Family, number: int) -> bool:
    """Whether the session can go on from this turn: one of its own, or one that its parents had when it was forked."""
    for session in family:
        if number in session.turns:
            return True
        if number > session.at:
            return False
        if number == 0:
            return True
    return False


def back_from(family: Family, number: int) -> Iterator[Turn]:
    """The turn, the one that it goes on from, and so on to the beginning. A fork's own numbers are higher than those
    that it shares."""
    for session in family:
        while turn := session.turns.get(number):
            yield turn
            number = turn.before


@value
class Conversation:
    """What a model is told of what was said: a summary, if there is one, and the turns since, oldest first."""

    summary: Turn | None
    turns: tuple[Turn, ...]


def conversation(family: Family, number: int) -> Conversation:
    """The conversation up to and with a turn. The newest summary says how many turns before it still stand."""
    summary, turns, room = None, [], float("inf")
    for turn in back_from(family, number):
        if turn.kept is None and room:
            turns.append(turn)
            room -= 1
        elif turn.kept is not None and summary is None:
            summary, room = turn, turn.kept
        if not room:
            break
    return Conversation(summary, tuple(reversed(turns)))


def setting(family: Family, name: str) -> Any:
    """A field of `session_created`: the session's own, else its parent's, and so on; None where nobody has it."""
    for session in family:
        found = getattr(session.created, name, None)
        if found is not None:
            return found
    return None
