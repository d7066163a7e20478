"""A request's row, through its life; the list; what is open."""

from __future__ import annotations

import pytest

from eventstore.catalogue import Event
from eventstore.catalogue.request import TERMINAL
from projections.requests import FOLDS, Choice, OpenRequests, list_requests, one_request, open_requests, session_of
from tests.projections.given import given, given_log
from tests.projections.ledger import START
from tests.projections.stories import (
    MODEL,
    answered,
    broke,
    cancelled,
    completed,
    everything,
    failed,
    generated,
    interrupted,
    received,
    rejected,
    routed,
    started,
    usd,
)

RUNNING = [received("r"), routed("r"), started("r")]


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([received("r")], "received"),
        ([received("r"), routed("r")], "received"),
        (RUNNING, "running"),
        ([*RUNNING, generated("r")], "running"),
        ([*RUNNING, generated("r"), completed("r")], "completed"),
        ([*RUNNING, broke("r"), failed("r")], "failed"),
        ([*RUNNING, broke("r"), cancelled("r")], "cancelled"),
        ([*RUNNING, interrupted("r")], "interrupted"),
        ([received("r"), rejected("r")], "rejected"),
        ([rejected("r")], "rejected"),
    ],
)
def test_state(events: list[Event], state: str) -> None:
    ended = int(state in {kind.removeprefix("request_") for kind in TERMINAL})
    given(*events).projects("SELECT state, ended_at IS NOT NULL FROM requests", [(state, ended)])


def test_every_terminal_event_is_folded() -> None:
    assert FOLDS.keys() >= TERMINAL


def test_a_row_says_what_happened() -> None:
    with given(*answered("r1", session_id="s1", key="key-1", tags={"team": "a"}, stream_answer=True)).rows() as rows:
        assert one_request(rows, "r1") == {
            "id": "r1", "state": "completed", "endpoint": "/v1/chat/completions", "wire": "openai_chat", "stream": True,
            "model_requested": "ollama/qwen3-coder:30b", "provider": "ollama", "model": "qwen3-coder:30b",
            "key": "key-1", "subject": "anonymous", "session_id": "s1", "tags": {"team": "a"}, "retention": None,
            "started_at": "2026-11-21T10:00:00.001000Z", "ended_at": "2026-11-21T10:00:00.005000Z", "status": 200,
            "attempts": 1, "tokens_input": 12, "tokens_input_cached": 0, "tokens_output": 7, "cost_usd": usd("0.00116"),
            "finish_reason": "stop", "duration_ms": 815.5, "overhead_ms": 3.25, "ttft_ms": 121.0, "error": None,
            "fault_domain": None, "reason": None, "position": 1, "last_position": 5,
        }  # fmt: skip
        assert one_request(rows, "r2") is None
        assert session_of(rows, "r1") == "s1"
        assert session_of(rows, "r2") is None


def test_tokens_of_all_attempts_count() -> None:
    attempts = [broke("r", tokens_input=5, tokens_output=1, cost_usd=usd("0.1")), started("r", 2), generated("r", 2)]
    query = "SELECT attempts, tokens_input, tokens_output, cost FROM requests"
    given(*RUNNING, *attempts, completed("r", attempts=2, cost_usd=usd("0.10116"))).projects(
        query, [(2, 17, 8, 101_160_000_000)]
    )


def test_an_error_is_shown_as_the_client_got_it() -> None:
    with given(rejected("r", status=404)).rows() as rows:
        found = one_request(rows, "r")
    assert found is not None
    assert (found["status"], found["fault_domain"], found["error"]["code"]) == (404, "caller", "model_not_found")


def test_the_list_is_newest_first_and_pages() -> None:
    with given_log(everything()).rows() as rows:
        first = list_requests(rows, limit=4)
        second = list_requests(rows, limit=4, after=first["data"][-1]["id"])
        third = list_requests(rows, limit=4, after=second["data"][-1]["id"])
        whole = list_requests(rows)
        with pytest.raises(KeyError):
            list_requests(rows, after="nobody")
    ids = [row["id"] for page in (first, second, third) for row in page["data"]]
    assert ids == [f"r{number}" for number in range(11, 0, -1)] == [row["id"] for row in whole["data"]]
    assert whole["position"] == everything().head()


@pytest.mark.parametrize(
    "only",
    [
        {"state": "rejected"}, {"state": "received"}, {"provider": "anthropic"}, {"model": MODEL}, {"key": "key-1"},
        {"session_id": "s1"}, {"state": "completed", "provider": "ollama"}, {"model": "x' OR 1=1 --"}, {},
    ],
)  # fmt: skip
def test_the_list_can_be_of_some_requests_only(only: dict[Choice, str]) -> None:
    with given_log(everything()).rows() as rows:
        whole = list_requests(rows)["data"]
        found = list_requests(rows, only=only)["data"]
        assert found == [row for row in whole if all(row[column] == wanted for column, wanted in only.items())]
        assert bool(found) == ("model" not in only or only["model"] == MODEL)
        if found:
            assert list_requests(rows, after=found[0]["id"], limit=1, only=only)["data"] == found[1:2]
        with pytest.raises(ValueError, match="not listed by error"):
            list_requests(rows, only={"error": "x"})  # type: ignore[dict-item]


def test_open_requests_and_the_oldest() -> None:
    with given(received("r1"), *answered("r2"), received("r3"), routed("r3")).rows() as rows:
        assert open_requests(rows) == OpenRequests(2, START + 1_000)
    with given(*answered("r")).rows() as rows:
        assert open_requests(rows) == OpenRequests(0, None)
