"""The decision after a failed attempt: pure, and the same again from what was recorded of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.exchange.inputs import Failure
from gateway.exchange.policy import Hedge, Policy, policy_of
from gateway.exchange.resilience import LONGEST_WAIT_S, Situation, Step, Tried, decided_again, next_step

NOW = 1_795_000_000_000_000
BOTH = Policy(retries=2, fallback=("ollama/a", "demo/echo"))


def step(failure: Failure, policy: Policy = BOTH, tried: Tried | None = None, elapsed_s: float = 0.0) -> Step | None:
    return next_step(Situation(failure, policy, tried or Tried(), elapsed_s, 0.5, NOW))


def answered(status: int, **more: object) -> Failure:
    return Failure("upstream_error", "no", status=status, **more)  # type: ignore[arg-type]


def test_what_may_pass_is_tried_again_where_it_was_and_later_each_time() -> None:
    delays = []
    for retried in range(2):
        found = step(answered(500), tried=Tried(retried))
        assert found is not None
        assert found.to is None
        delays.append(found.delay_s)
    assert delays == [0.375, 0.75]


def test_then_the_models_to_fall_back_on_take_it_in_their_order() -> None:
    for fallen in range(2):
        found = step(answered(500), tried=Tried(2, fallen))
        assert found is not None
        assert (found.to, found.delay_s, found.reason) == (fallen, 0.0, "500")
    assert step(answered(500), tried=Tried(2, 2)) is None


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_request_that_is_wrong_is_wrong_everywhere(status: int) -> None:
    assert step(answered(status)) is None


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_what_is_wrong_with_one_provider_is_not_tried_again_there(status: int) -> None:
    found = step(answered(status))
    assert found is not None
    assert found.to == 0


def test_a_prompt_too_long_for_one_model_may_fit_another() -> None:
    found = step(answered(400, code="context_length_exceeded"))
    assert found is not None
    assert found.to == 0


def test_credit_that_is_used_up_does_not_come_back_by_waiting() -> None:
    found = step(answered(429, code="insufficient_quota"))
    assert found is not None
    assert found.to == 0


def test_retry_after_is_honoured_and_too_long_a_wait_goes_elsewhere() -> None:
    soon, late = step(answered(429, retry_after_s=3.0)), step(answered(429, retry_after_s=LONGEST_WAIT_S + 1))
    assert soon is not None
    assert (soon.to, 3.0 <= soon.delay_s < 4.0) == (None, True)
    assert late is not None
    assert late.to == 0


def test_a_minute_is_waited_for_whatever_is_drawn_and_earlier_decisions_against_it_stand() -> None:
    """What Retry-After most often says."""
    for draw in (0.0, 0.99):
        found = next_step(Situation(answered(429, retry_after_s=60.0), BOTH, Tried(), 0.0, draw, NOW))
        assert found is not None
        assert (found.to, found.delay_s >= 60.0) == (None, True)
        inputs = {name: given for name, given in found.inputs.items() if name != "longest_s"}
        again = decided_again(inputs)
        assert again is not None
        assert again.to == (0 if draw else None)


def test_nothing_begins_that_the_deadline_would_cut() -> None:
    policy = Policy(retries=2, fallback=("demo/echo",), deadline_s=10.0)
    found = step(answered(429, retry_after_s=9.0), policy, elapsed_s=2.0)
    assert found is not None
    assert found.to == 0
    assert step(answered(500), policy, elapsed_s=10.0) is None


def test_a_provider_that_is_left_alone_is_not_tried_again_where_another_may_be() -> None:
    found = next_step(Situation(answered(500), BOTH, Tried(), 0.0, 0.5, NOW, left_alone=True))
    assert found is not None
    assert (found.to, found.delay_s) == (0, 0.0)
    assert decided_again(json.loads(json.dumps(found.inputs))) == found
    for policy, tried in ((Policy(retries=2), Tried()), (BOTH, Tried(0, 2))):
        found = next_step(Situation(answered(500), policy, tried, 0.0, 0.5, NOW, left_alone=True))
        assert found is not None
        assert found.to is None


KINDS = st.sampled_from(["connect_failed", "cut", "upstream_error", "validation_failed", "internal_error"])
FAILURES = st.builds(
    Failure,
    KINDS,
    st.just("no"),
    status=st.none() | st.sampled_from([400, 401, 404, 429, 500, 503, 529]),
    code=st.none() | st.sampled_from(["context_length_exceeded", "insufficient_quota"]),
    retry_after_s=st.none() | st.floats(0, 1000),
)
POLICIES = st.builds(
    Policy,
    st.integers(0, 10),
    st.lists(st.just("a/b"), max_size=3).map(tuple),
    st.none() | st.floats(0.1, 100),
    st.sampled_from(["error", "resume"]),
)


@given(
    FAILURES,
    POLICIES,
    st.builds(Tried, st.integers(0, 11), st.integers(0, 4)),
    st.floats(0, 200),
    st.floats(0, 1),
    st.booleans(),
    st.booleans(),
)
def test_it_ends_stays_in_bounds_and_is_decided_again_the_same(
    failure: Failure, policy: Policy, tried: Tried, elapsed_s: float, draw: float, shown: bool, left_alone: bool
) -> None:
    found = next_step(Situation(failure, policy, tried, elapsed_s, draw, NOW, shown, left_alone=left_alone))
    if found is None:
        return
    assert policy.continuation == "resume" or not shown
    assert tried.retried < policy.retries if found.to is None else found.to == tried.fallen < len(policy.fallback)
    assert 0 <= found.delay_s <= LONGEST_WAIT_S
    if policy.deadline_s is not None:
        assert elapsed_s + found.delay_s < policy.deadline_s
    again = decided_again(json.loads(json.dumps(found.inputs)))
    assert again == found
    assert decided_again({**found.inputs, "retried": 99, "fallen": 99}) != found  # what was altered is noticed


def test_a_request_that_says_nothing_has_the_servers_policy() -> None:
    assert policy_of({}, Policy()) is None
    assert policy_of({}, Policy(retries=1)) == Policy(retries=1)
    assert policy_of({"retries": 0}, Policy(retries=1)) == Policy()
    asked = policy_of({"fallback": "demo/echo", "deadline_s": 5}, Policy(retries=1))
    assert asked == Policy(1, ("demo/echo",), 5.0)
    hedged = policy_of({"hedge": {"after_ms": 5, "model": "a/b"}}, Policy(continuation="resume"))
    assert hedged == Policy(continuation="resume", hedge=Hedge(5, "a/b"))


@pytest.mark.parametrize(
    "field",
    [{"retries": -1}, {"retries": 11}, {"retries": True}, {"fallback": [1]}, {"fallback": ["a/b"] * 11},
     {"fallback": [""]}, {"deadline_s": 0}, {"deadline_s": "5"}, {"deadline_s": float("inf")},
     {"continuation": "always"}, {"continuation": True}, {"continuation": []},
     {"hedge": {"after_ms": 1.5, "model": "a/b"}}, {"hedge": {"after_ms": 1, "model": ""}},
     {"hedge": {"after_ms": 1, "model": "a/b", "more": 1}}],
)  # fmt: skip
def test_what_is_no_policy_is_refused(field: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        policy_of(field, Policy())
