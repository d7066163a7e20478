"""What is recorded of a turn beside its request's events: its beginning with their first, its end with their last."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from eventstore.catalogue import Event
from eventstore.envelope import ANY_VERSION, StreamWrite
from gateway.sessions.fitting import Carried
from gateway.sessions.state import Session, fold
from gateway.sessions.turn import PlannedTurn, abandoned
from tests.projections.stories import (
    cancelled,
    completed,
    failed,
    generated,
    interrupted,
    received,
    rejected,
    routed,
    started,
)

TURN = PlannedTurn(session_id="s", version=4, number=3, before=2, carried=Carried(2, 1, 50, 100))
COMPACTION = replace(TURN, purpose="compaction", kept=2)
BEGINNING: list[Event] = [received("r"), routed("r"), started("r")]


def types(writes: tuple[StreamWrite, ...]) -> list[str]:
    return [event.type for write in writes for event in write.events]


def fields(writes: tuple[StreamWrite, ...]) -> bytes:
    return b"".join(event.fields for write in writes for event in write.events)


def test_it_begins_with_its_request_on_the_version_that_it_was_planned_for() -> None:
    (write,) = TURN.beside("r", True, BEGINNING)
    assert (write.stream, write.expected, types((write,))) == ("s", 4, ["session_turn_started"])
    assert b'"turn":3' in fields((write,))
    assert b'"carried":2,"dropped":1' in fields((write,))


def test_what_comes_between_is_no_affair_of_the_session() -> None:
    assert TURN.beside("r", False, [generated("r"), started("r", 2)]) == ()


@pytest.mark.parametrize(
    ("end", "type_", "said"),
    [
        (completed("r"), "session_turn_completed", b'"cost_usd"'),
        (failed("r"), "session_turn_abandoned", b'"reason":"failed"'),
        (cancelled("r"), "session_turn_abandoned", b'"reason":"cancelled"'),
        (interrupted("r"), "session_turn_abandoned", b'"reason":"interrupted"'),
        (rejected("r"), "session_turn_abandoned", b'"reason":"rejected"'),
    ],
)
def test_it_ends_with_its_request(end: Event, type_: str, said: bytes) -> None:
    writes = TURN.beside("r", False, [end])
    assert types(writes) == [type_]
    assert said in fields(writes)
    assert writes[0].expected == ANY_VERSION


def test_a_request_that_is_refused_at_once_takes_no_turn() -> None:
    assert TURN.beside("r", True, [received("r"), rejected("r")]) == ()


def test_one_that_is_answered_at_once_takes_it_and_ends_it() -> None:
    writes = TURN.beside("r", True, [*BEGINNING, generated("r"), completed("r")])
    assert types(writes) == ["session_turn_started", "session_turn_completed"]
    assert writes[0].expected == 4


def test_a_compaction_ends_in_its_summary() -> None:
    writes = COMPACTION.beside("r", False, [generated("r"), completed("r")])
    assert types(writes) == ["session_compacted"]
    assert b'"kept":2' in fields(writes)


@pytest.mark.parametrize("message", [{"content": None, "tool_calls": [{}]}, {"content": " "}])
def test_an_answer_without_words_is_no_summary(message: dict[str, Any]) -> None:
    wordless = generated("r", choices=[{"index": 0, "message": message, "finish_reason": "stop"}])
    writes = COMPACTION.beside("r", False, [wordless, completed("r")])
    assert types(writes) == ["session_turn_abandoned"]
    assert b'"reason":"no_summary"' in fields(writes)


def test_after_a_crash_only_the_open_turn_of_the_request_is_abandoned() -> None:
    (begun,) = TURN.beside("r", True, BEGINNING)
    session = fold(Session("s"), [TURN._started("r")])
    assert types(abandoned(session, "r", [interrupted("r")])) == ["session_turn_abandoned"]
    assert abandoned(session, "another", [interrupted("another")]) == ()
    assert abandoned(Session("s"), "r", [interrupted("r")]) == ()
    assert begun.stream == "s"
