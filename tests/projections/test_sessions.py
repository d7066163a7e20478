"""What is reported of sessions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from eventstore.catalogue.values import Usd
from projections.projection import Projection
from projections.sessions import Sessions, list_sessions, list_turns, one_session
from tests.projections.given import given
from tests.projections.ledger import Ledger
from tests.projections.projection_conformance import CASES
from tests.projections.stories import sessions, turn


def test_a_session_adds_up_its_turns() -> None:
    with given(*sessions()).rows() as rows:
        first = one_session(rows, "session-1")
    assert first is not None
    assert (first["turns"], first["turn"], first["busy"], first["model"], first["title"]) == (1, 1, False, "a/b", "Ä")
    assert (first["tokens_input"], first["tokens_output"]) == (36, 21)
    assert (first["cost_usd"], first["turns_unpriced"]) == (Usd.parse("0.00232"), 1)
    assert (first["version"], first["metadata"], first["forked_from"]) == (8, {"team": "a"}, None)


def test_a_fork_begins_where_it_was_forked_and_at_no_cost() -> None:
    with given(*sessions()).rows() as rows:
        fork = one_session(rows, "session-2")
    assert fork is not None
    assert (fork["forked_from"], fork["model"]) == ({"id": "session-1", "at": 1}, "a/b")
    assert (fork["turns"], fork["turn"], fork["tokens_output"]) == (1, 2, 7)


def test_a_list_is_newest_first_without_the_deleted() -> None:
    with given(*sessions()).rows() as rows:
        assert [each["id"] for each in list_sessions(rows)["data"]] == ["session-2", "session-1"]
        assert [each["id"] for each in list_sessions(rows, 1, "session-2")["data"]] == ["session-1"]
        assert one_session(rows, "session-3") is None
        with pytest.raises(KeyError):
            list_sessions(rows, after="nobody")


def test_turns_by_their_numbers() -> None:
    with given(*sessions()).rows() as rows:
        turns = list_turns(rows, "session-1")["data"]
        assert [(each["turn"], each["state"], each["reason"], each["cost_usd"]) for each in turns] == [
            (1, "completed", None, Usd.parse("0.00116")),
            (2, "abandoned", "failed", None),
            (3, "compacted", None, Usd.parse("0.00116")),
        ]
        assert [each["turn"] for each in list_turns(rows, "session-1", 1, 1)["data"]] == [2]


def test_a_turn_that_goes_on() -> None:
    begun = [*sessions()[:1], *turn("session-1", 1, "s1")[:4]]
    with given(*begun).rows() as rows:
        session = one_session(rows, "session-1")
        (running,) = list_turns(rows, "session-1")["data"]
    assert session is not None
    assert (session["busy"], session["turns"], session["turns_unpriced"]) == (True, 0, 0)
    assert (running["state"], running["ended_at"]) == ("running", None)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_it_keeps_the_promises_of_projections(case: Callable[[Path, Ledger, Projection], None], tmp_path: Path) -> None:
    log = Ledger()
    log.add(*sessions())
    case(tmp_path, log, Sessions())
