"""A turn of a session beside its request: what is recorded of it in the same commits. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eventstore.catalogue.event import Event
from eventstore.catalogue.generation import GenerationCompleted
from eventstore.catalogue.request import TERMINAL
from eventstore.catalogue.session import (
    Purpose,
    SessionCompacted,
    SessionTurnAbandoned,
    SessionTurnCompleted,
    SessionTurnStarted,
)
from eventstore.catalogue.values import Usd
from eventstore.envelope import ANY_VERSION, StreamWrite
from eventstore.value import value
from gateway.sessions.fitting import Carried
from gateway.sessions.state import Session

COMPLETED = "request_completed"


@value(kw_only=True)
class PlannedTurn:
    """The turn that a request is to be. It goes on from turn `before` of its session as that was at `version`: where
    the session has moved meanwhile, the request's first commit is refused whole. `kept` is for a compaction."""

    session_id: str
    version: int
    number: int
    before: int
    carried: Carried
    purpose: Purpose = "chat"
    kept: int = 0

    def beside(self, request_id: str, first: bool, events: Sequence[Event]) -> tuple[StreamWrite, ...]:
        """What goes into the commit of these events of its request; `first`: its stream begins with them. A request
        that is refused at once takes no turn; one that ends at once takes it and ends it."""
        ended = events[-1].type in TERMINAL
        if first and ended and events[-1].type != COMPLETED:
            return ()
        recorded: list[Event] = [self._started(request_id)] if first else []
        if ended:
            recorded.append(end_of_turn(self.session_id, self.number, self.purpose, self.kept, events))
        if not recorded:
            return ()
        expected = (
            self.version if first else ANY_VERSION
        )  # nobody else ends a turn, whatever else became of its session
        return (StreamWrite(self.session_id, expected, tuple(event.new() for event in recorded)),)

    def _started(self, request_id: str) -> SessionTurnStarted:
        carried = self.carried
        return SessionTurnStarted(
            session_id=self.session_id,
            turn=self.number,
            request_id=request_id,
            before=self.before,
            purpose=self.purpose,
            carried=carried.turns,
            dropped=carried.dropped,
            tokens=carried.tokens,
            window=carried.window,
        )


def end_of_turn(session_id: str, number: int, purpose: Purpose, kept: int, events: Sequence[Event]) -> Event:
    """How a turn ends whose request ended with these events."""
    last = events[-1]
    turn: dict[str, Any] = {"session_id": session_id, "turn": number, "request_id": last.request_id}  # type: ignore[attr-defined]  # every event of a request has one
    turn["cost_usd"] = getattr(last, "cost_usd", Usd(0))
    if last.type != COMPLETED:
        return SessionTurnAbandoned(**turn, reason=last.type.removeprefix("request_"))
    if purpose == "chat":
        return SessionTurnCompleted(**turn)
    if _says_nothing(events):
        return SessionTurnAbandoned(**turn, reason="no_summary")
    return SessionCompacted(**turn, kept=kept)


def _says_nothing(events: Sequence[Event]) -> bool:
    """Whether the answer has no text: then it is no summary."""
    answers = [event.choices or [] for event in events if isinstance(event, GenerationCompleted)]
    return bool(answers) and not any((choice["message"].get("content") or "").strip() for choice in answers[-1])


def abandoned(session: Session, request_id: str, events: Sequence[Event]) -> tuple[StreamWrite, ...]:
    """The end of the turn that a request left open, beside the events that end the request; nothing where it took
    none."""
    turn = session.open
    if turn is None or turn.request_id != request_id:
        return ()
    end = end_of_turn(session.session_id, turn.turn, turn.purpose, 0, events)
    return (StreamWrite(session.session_id, ANY_VERSION, (end.new(),)),)
