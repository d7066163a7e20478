"""What is recorded when something happens to an exchange: given, when, then."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from eventstore.catalogue.values import Usage, Usd
from gateway.errors import InvalidRequest
from gateway.exchange.decide import Ended, decide
from gateway.exchange.decide_attempt import UNKEPT
from gateway.exchange.inputs import Failure, Input
from tests.gateway.exchange.given import (
    CALL,
    CHOICES,
    ERROR,
    VIEWS,
    Given,
    answered,
    failed,
    interrupted,
    left,
    refused,
    submitted,
)

ENDS: dict[str, Callable[[], Input]] = {
    "answered": answered,
    "failed": failed,
    "left": left,
    "interrupted": interrupted,
    "refused": refused,
}


def test_a_request_is_recorded_with_its_route_and_the_intent_to_call() -> None:
    given = Given().when(submitted())
    assert given.types == ["request_received", "route_selected", "generation_started"]
    assert not given.ended
    received, route, started = given.then
    assert (received.body_length, received.body) == (400, submitted().submission.recorded)  # type: ignore[attr-defined]
    assert (route.provider, route.model, route.ignored) == ("p", "m", ["user"])  # type: ignore[attr-defined]
    assert route.inputs == {"now_us": VIEWS.now_us, "listed": ["p"]}  # type: ignore[attr-defined]
    assert (started.attempt, started.decoder, started.call_length) == (1, "openai_chat_body.1", 2)  # type: ignore[attr-defined]


@pytest.mark.parametrize("end", ENDS)
def test_whatever_happens_ends_it_in_one_event_and_nothing_follows(end: str) -> None:
    given = Given(submitted()).when(ENDS[end]())
    assert given.ended
    for after in (*ENDS.values(), submitted):
        with pytest.raises(Ended):
            decide(after(), given.exchange, VIEWS)


@pytest.mark.parametrize(("end", "before"), [*itertools.product(("refused", "interrupted"), (0, 1))])
def test_it_can_end_before_it_was_routed(end: str, before: int) -> None:
    assert Given(*[submitted()][:before]).when(ENDS[end]()).ended


def test_an_answer_is_completed_with_usage_and_cost() -> None:
    given = Given(submitted()).when(answered())
    assert given.types == ["generation_completed", "request_completed"]
    generation, request = given.one("generation_completed"), given.one("request_completed")
    assert (generation.tokens_input, generation.tokens_output, generation.usage_source) == (7, 3, "provider")
    assert (generation.cost_usd, generation.price_rule) == (Usd.parse(10), "standard")
    assert (generation.choices, generation.frames, generation.frames_digest) == (CHOICES, 2, "cc")
    assert (request.cost_usd, request.payload_digest, request.payload_length) == (Usd.parse(10), "dd", 100)


def test_the_tier_that_was_served_prices_it() -> None:
    generation = Given(submitted()).when(answered(service_tier="flex")).one("generation_completed")
    assert (generation.cost_usd, generation.price_rule) == (Usd.parse(5), "flex")


def test_a_cost_that_the_provider_reports_counts() -> None:
    generation = Given(submitted()).when(answered(cost_reported="0.25")).one("generation_completed")
    assert (generation.cost_usd, generation.price_rule) == (Usd.parse("0.25"), "provider_reported")


def test_no_usage_is_estimated_where_content_came() -> None:
    """A token for every four bytes of the call and four characters of the answer."""
    generation = Given(submitted()).when(answered(usage=None)).one("generation_completed")
    assert (generation.tokens_input, generation.tokens_output, generation.usage_source) == (1, 3, "estimated")


def test_each_tool_that_the_model_asked_for_is_an_event() -> None:
    custom = {"id": "call_2", "type": "custom", "custom": {"name": "run", "input": "ls"}}
    message = {"role": "assistant", "content": None, "tool_calls": [CALL, custom]}
    given = Given(submitted()).when(answered(choices=[{"index": 0, "message": message, "finish_reason": "tool_calls"}]))
    assert given.types == ["generation_completed", "tool_called", "tool_called", "request_completed"]
    calls = [event for event in given.then if event.type == "tool_called"]
    assert [(c.tool_name, c.call_id, c.arguments) for c in calls] == [  # type: ignore[attr-defined]
        ("look", "call_1", '{"a": 1}'),
        ("run", "call_2", "ls"),
    ]


def test_a_failure_before_any_content_costs_nothing() -> None:
    given = Given(submitted()).when(failed(began=False, frames=0, text_length=0))
    generation, request = given.one("generation_failed"), given.one("request_failed")
    assert (generation.kind, generation.usage_source, generation.cost_usd) == ("cut", "none", Usd(0))
    assert (request.status, request.error, request.fault_domain, request.began) == (502, ERROR, "provider", True)


def test_a_failure_behind_content_counts_what_came() -> None:
    given = Given(submitted()).when(failed(choices=CHOICES))
    generation = given.one("generation_failed")
    assert (generation.tokens_output, generation.usage_source, generation.choices) == (3, "estimated", CHOICES)
    assert given.one("request_failed").cost_usd == generation.cost_usd


def test_what_the_provider_said_about_trying_again_is_kept() -> None:
    failure = Failure("upstream_error", "Slow down.", "provider", 429, retry_after_s=7.0, headers={"retry-after": "7"})
    given = Given(submitted()).when(failed(failure, began=False))
    generation, request = given.one("generation_failed"), given.one("request_failed")
    assert (generation.status, generation.retry_after_s, generation.headers) == (429, 7.0, {"retry-after": "7"})
    assert request.headers == {"retry-after": "7"}


def test_a_client_that_left_is_the_callers_affair() -> None:
    given = Given(submitted()).when(left())
    assert given.types == ["generation_failed", "request_cancelled"]
    assert given.one("generation_failed").fault_domain == "caller"
    assert given.one("request_cancelled").reason == "client_left"


def test_usage_that_the_provider_said_before_the_client_left_counts() -> None:
    generation = Given(submitted()).when(left(usage=Usage(input_tokens=50, output_tokens=2))).one("generation_failed")
    assert (generation.tokens_input, generation.usage_source) == (50, "provider")


def test_an_interruption_ends_the_generation_that_ran() -> None:
    given = Given(submitted()).when(interrupted("shutdown"))
    assert given.types == ["generation_failed", "request_interrupted"]
    assert given.one("generation_failed").fault_domain == "gateway"
    assert given.one("request_interrupted").reason == "shutdown"


def test_an_interruption_before_a_generation_ends_the_request_alone() -> None:
    assert Given().when(interrupted()).types == ["request_interrupted"]


def test_a_cost_that_nobody_knows_is_none_and_stays_none() -> None:
    unknown = submitted()
    object.__setattr__(unknown.route, "model", "unknown")
    given = Given(unknown).when(answered())
    assert given.one("generation_completed").cost_usd is None
    assert given.one("request_completed").cost_usd is None
    assert given.exchange.cost is None


def test_a_refusal_is_recorded_with_what_was_asked() -> None:
    given = Given().when(refused())
    assert given.types == ["request_received", "request_rejected"]
    rejected = given.one("request_rejected")
    assert (rejected.status, rejected.error["code"], rejected.fault_domain) == (404, "model_not_found", "caller")


def test_a_refusal_of_what_could_not_be_read_is_all_there_is() -> None:
    given = Given().when(refused(InvalidRequest("No JSON."), recorded=None, body={}, model=""))
    assert given.types == ["request_rejected"]
    assert given.one("request_rejected").model is None


# Content that must not be kept.


def test_what_must_not_be_kept_is_in_no_event() -> None:
    message = {"role": "assistant", "content": "secret", "tool_calls": [CALL]}
    given = Given().when(submitted(retained=False, tags={"a": "b"}, recorded={}))
    assert (given.one("request_received").body, given.one("request_received").retention) == (None, "none")
    given.when(answered(choices=[{"index": 0, "message": message, "finish_reason": "tool_calls"}]))
    assert given.one("generation_completed").choices is None
    assert given.one("tool_called").arguments is None
    assert given.one("generation_completed").tokens_output == 3


def test_nor_the_words_of_an_error_which_can_quote_it() -> None:
    for end in (failed(Failure("upstream_error", "Not about secret.", "caller", 400, code="c")), left()):
        given = Given(submitted(retained=False, recorded={})).when(end)
        assert given.one("generation_failed").message == UNKEPT
        assert given.one("generation_failed").choices is None
    given = Given(submitted(retained=False, recorded={})).when(failed())
    assert given.one("request_failed").error == {**ERROR, "message": UNKEPT}
    given = Given().when(refused(retained=False, recorded=None))
    assert given.one("request_rejected").error["message"] == UNKEPT
    assert given.one("request_rejected").retention == "none"
