"""A session is a fold of its stream: given what happened, then this is the conversation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from eventstore.catalogue import Event
from eventstore.catalogue.session import (
    SessionCleared,
    SessionCompacted,
    SessionCreated,
    SessionDeleted,
    SessionForked,
    SessionTurnAbandoned,
    SessionTurnCompleted,
    SessionTurnStarted,
)
from eventstore.catalogue.values import Usd
from gateway.sessions.state import Family, Session, conversation, fold, known, restated, setting

FREE = Usd(0)


def created(**fields: Any) -> Event:
    return SessionCreated(session_id="s", key="k", **fields)


def started(turn: int, before: int, purpose: Any = "chat") -> Event:
    return SessionTurnStarted(
        session_id="s", turn=turn, request_id=f"r{turn}", before=before, purpose=purpose, carried=0, dropped=0,
        tokens=1, window=100,
    )  # fmt: skip


def said(turn: int, before: int) -> list[Event]:
    done = SessionTurnCompleted(session_id="s", turn=turn, request_id=f"r{turn}", cost_usd=FREE)
    return [started(turn, before), done]


def failed(turn: int, before: int) -> list[Event]:
    gone = SessionTurnAbandoned(session_id="s", turn=turn, request_id=f"r{turn}", reason="failed", cost_usd=FREE)
    return [started(turn, before), gone]


def compacted(turn: int, before: int, kept: int) -> list[Event]:
    done = SessionCompacted(session_id="s", turn=turn, request_id=f"r{turn}", kept=kept, cost_usd=FREE)
    return [started(turn, before, "compaction"), done]


def cleared(at: int) -> Event:
    return SessionCleared(session_id="s", at=at, key="k")


def forked(at: int, parent: str = "p") -> Event:
    return SessionForked(session_id="s", parent_id=parent, at=at, key="k")


def given(*events: Event | list[Event], session_id: str = "s") -> Session:
    flat = [one for each in events for one in (each if isinstance(each, list) else [each])]
    return fold(Session(session_id), flat)


def told(family: Family, at: int | None = None) -> list[int]:
    """The numbers of the turns of the conversation, a summary's first and negative."""
    found = conversation(family, family[0].tip if at is None else at)
    summary = [] if found.summary is None else [-found.summary.number]
    return summary + [turn.number for turn in found.turns]


def test_turns_follow_one_another() -> None:
    session = given(created(), said(1, 0), said(2, 1))
    assert told([session]) == [1, 2]
    assert (session.version, session.tip, session.newest, session.open) == (5, 2, 2, None)


def test_an_open_turn_is_no_part_of_it_yet() -> None:
    session = given(created(), said(1, 0), started(2, 1))
    assert told([session]) == [1]
    assert session.open is not None
    assert session.open.turn == 2


def test_what_was_abandoned_never_was() -> None:
    session = given(created(), said(1, 0), failed(2, 1), said(3, 1))
    assert told([session]) == [1, 3]


def test_a_rewind_goes_on_from_an_earlier_turn_and_loses_nothing() -> None:
    session = given(created(), said(1, 0), said(2, 1), cleared(1), said(3, 1))
    assert told([session]) == [1, 3]
    assert told([session], at=2) == [1, 2]


def test_a_cleared_session_begins_anew() -> None:
    assert told([given(created(), said(1, 0), cleared(0), said(2, 0))]) == [2]


def test_a_fork_shares_what_its_parent_had() -> None:
    parent = given(created(), said(1, 0), said(2, 1), said(3, 2), session_id="p")
    child = given(created(), forked(2), said(3, 2), said(4, 3))
    assert [turn.request_id for turn in conversation([child, parent], 4).turns] == ["r1", "r2", "r3", "r4"]
    assert 3 in child.turns
    assert told([child, parent], at=2) == [1, 2]


def test_a_fork_of_a_fork_goes_back_to_the_beginning() -> None:
    first = given(created(), said(1, 0), said(2, 1), session_id="a")
    second = given(created(), forked(1, "a"), said(2, 1), said(3, 2), session_id="b")
    third = given(created(), forked(2, "b"), said(3, 2), session_id="c")
    assert told([third, second, first]) == [1, 2, 3]


def test_a_summary_stands_for_what_came_before_but_the_last_turns() -> None:
    session = given(created(), said(1, 0), said(2, 1), said(3, 2), compacted(4, 3, kept=1), said(5, 4))
    assert told([session]) == [-4, 3, 5]
    assert told([session], at=3) == [1, 2, 3]


def test_a_later_summary_takes_the_place_of_an_earlier_one() -> None:
    session = given(
        created(), said(1, 0), said(2, 1), compacted(3, 2, kept=1), said(4, 3), compacted(5, 4, kept=2), said(6, 5)
    )
    assert told([session]) == [-5, 2, 4, 6]


def test_a_summary_of_everything_stands_alone() -> None:
    assert told([given(created(), said(1, 0), compacted(2, 1, kept=0))]) == [-2]


def test_a_fork_from_before_the_summary_has_the_words() -> None:
    parent = given(created(), said(1, 0), said(2, 1), compacted(3, 2, kept=0), session_id="p")
    assert told([given(created(), forked(2)), parent]) == [1, 2]


@pytest.mark.parametrize(("number", "is_known"), [(0, True), (1, True), (2, True), (3, True), (4, False), (9, False)])
def test_turns_that_a_fork_can_go_back_to(number: int, is_known: bool) -> None:
    parent = given(created(), said(1, 0), said(2, 1), said(3, 2), said(4, 3), session_id="p")
    child = given(created(), forked(2), said(3, 2), failed(4, 3))
    assert known([child, parent], number) is is_known


def test_what_a_fork_leaves_unsaid_is_its_parents() -> None:
    parent = given(created(model="a/b", system_prompt="Be brief."), session_id="p")
    child = given(created(model="c/d"), forked(0))
    assert (setting([child, parent], "model"), setting([child, parent], "system_prompt")) == ("c/d", "Be brief.")
    assert setting([child, parent], "context_tokens") is None


def test_a_deleted_session_knows_it_and_takes_the_end_of_its_turn() -> None:
    turn = said(1, 0)
    session = given(created(), turn[0], SessionDeleted(session_id="s", key="k"), turn[1])
    assert session.deleted
    assert session.open is None


def test_folding_in_pieces_is_folding_at_once_and_changes_nothing_that_was() -> None:
    events = [created(), *said(1, 0), *said(2, 1), *compacted(3, 2, 1), cleared(1), *said(4, 1)]
    at_once, pieces, before = fold(Session("s"), events), Session("s"), []
    for event in events:
        before.append((pieces, dict(pieces.turns)))
        pieces = fold(pieces, [event])
    assert pieces == at_once
    assert all(dict(session.turns) == turns for session, turns in before)


def test_what_is_said_again_is_all_that_was_known() -> None:
    fork = SessionForked(session_id="s", parent_id="p", at=3, key="k")
    compacted = SessionCompacted(session_id="s", turn=5, request_id="r5", kept=1, cost_usd=FREE)
    events = [created(model="a/b", settings={"n": 1}), fork, *said(4, 3), started(5, 4, "compaction"), compacted]
    for more in ([], [started(6, 5)], [SessionCleared(session_id="s", at=4, key="k")]):
        before = fold(Session("s"), [*events, *more])
        for known_already in (Session("s"), fold(Session("s"), said(4, 0)), before):
            assert fold(known_already, [restated(before)]) == replace(before, version=before.version + 1)
    gone = fold(before, [SessionDeleted(session_id="s", key="k")])
    assert fold(Session("s"), [restated(gone)]).deleted
