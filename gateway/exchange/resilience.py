"""What follows an attempt that failed: the same call again, another model, or the error. Where the client saw some of
the answer, anything but the error is for those that asked for it. Pure: the clock and the draw are given, and recorded
with the decision, so that it can be made again offline.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from eventstore.value import value
from gateway.exchange.inputs import Failure
from gateway.exchange.policy import Policy

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 8.0
LONGEST_WAIT_S = 60.0 + FIRST_DELAY_S
"""A provider that wants us to wait for more than a minute (its Retry-After) is not waited for; to what it wants a
little is added."""
LONGEST_ONCE_S = 60.0
"""The same of decisions that do not say it: a minute itself was then hardly ever waited for."""

PASSING_KINDS = frozenset(
    {
        "connect_failed",
        "connect_timeout",
        "first_byte_timeout",
        "idle_timeout",
        "connection_lost",
        "cut",
        "bad_response",
    }
)
PASSING_STATUSES = frozenset({408, 429, 500, 502, 503, 504, 520, 522, 524, 529})
"""Failures that may be gone at the next attempt."""
ELSEWHERE_STATUSES = PASSING_STATUSES | {401, 402, 403, 404}
"""Failures that another provider need not share: our key there, our credit, its list of models."""
OTHERS_KINDS = frozenset({"validation_failed", "circuit_open"})
ELSEWHERE_CODES = frozenset({"context_length_exceeded", "insufficient_quota"})


@value
class Tried:
    """What was tried so far: retries of the current model, and how many of the models to fall back on are used up."""

    retried: int = 0
    fallen: int = 0


NOTHING = Tried()


@value
class Situation:
    """An attempt has failed: all that is decided from. `elapsed_s` is since the request came, `draw` from [0, 1), the
    clock in microseconds since 1970 UTC. `shown`: its client has seen some of the answer; `longest_s`: for how long it
    is waited; `left_alone`: its provider's circuit is open, so that another model comes before a retry."""

    failure: Failure
    policy: Policy
    tried: Tried
    elapsed_s: float
    draw: float
    now_us: int
    shown: bool = False
    longest_s: float = LONGEST_WAIT_S
    left_alone: bool = False

    def inputs(self) -> dict[str, Any]:
        """As it is recorded with the decision."""
        failure, policy, tried = self.failure, self.policy, self.tried
        return {
            "now_us": self.now_us,
            "elapsed_s": self.elapsed_s,
            "draw": self.draw,
            "kind": failure.kind,
            "status": failure.status,
            "code": failure.code,
            "retry_after_s": failure.retry_after_s,
            "retries": policy.retries,
            "fallback": list(policy.fallback),
            "deadline_s": policy.deadline_s,
            "retried": tried.retried,
            "fallen": tried.fallen,
            "longest_s": self.longest_s,
            **({"shown": True, "continuation": policy.continuation} if self.shown else {}),
            **({"left_alone": True} if self.left_alone else {}),
        }


@value
class Step:
    """The next attempt: in `delay_s` seconds, at the fallback of this number, or (`to` is None) where it was. `reason`
    is the failure's kind or status; `inputs` is what this was decided from."""

    to: int | None
    delay_s: float
    reason: str
    inputs: dict[str, Any]


def next_step(now: Situation) -> Step | None:
    """What follows a failed attempt; None where the failure stands."""
    failure, policy, tried = now.failure, now.policy, now.tried
    if now.shown and policy.continuation != "resume":
        return None
    reason = str(failure.status or failure.kind)
    delay_s = _delay_s(failure, tried.retried, now.draw)
    waited = delay_s <= now.longest_s and _fits(now.elapsed_s + delay_s, policy)
    goes_on = tried.fallen < len(policy.fallback) and _may_go_elsewhere(failure) and _fits(now.elapsed_s, policy)
    if tried.retried < policy.retries and _passes(failure) and waited and not (now.left_alone and goes_on):
        return Step(None, delay_s, reason, now.inputs())
    return Step(tried.fallen, 0.0, reason, now.inputs()) if goes_on else None


def decided_again(inputs: Mapping[str, Any]) -> Step | None:
    """The decision from what was recorded of it."""
    return next_step(
        Situation(
            Failure(
                inputs["kind"], "", status=inputs["status"], code=inputs["code"], retry_after_s=inputs["retry_after_s"]
            ),
            Policy(
                inputs["retries"],
                tuple(inputs["fallback"]),
                inputs["deadline_s"],
                inputs.get("continuation", "error"),
            ),
            Tried(inputs["retried"], inputs["fallen"]),
            inputs["elapsed_s"],
            inputs["draw"],
            inputs["now_us"],
            inputs.get("shown", False),
            inputs.get("longest_s", LONGEST_ONCE_S),
            inputs.get("left_alone", False),
        )
    )


def _passes(failure: Failure) -> bool:
    return _is(failure, PASSING_STATUSES) and failure.code != "insufficient_quota"


def _may_go_elsewhere(failure: Failure) -> bool:
    return _is(failure, ELSEWHERE_STATUSES) or failure.code in ELSEWHERE_CODES or failure.kind in OTHERS_KINDS


def _is(failure: Failure, statuses: Collection[int]) -> bool:
    return failure.kind in PASSING_KINDS if failure.status is None else failure.status in statuses


def _delay_s(failure: Failure, retried: int, draw: float) -> float:
    """What the provider asked for, and a little more; else twice as long each time, with half of it drawn."""
    if failure.retry_after_s is not None:
        return round(failure.retry_after_s + draw * FIRST_DELAY_S, 3)
    return round(min(FIRST_DELAY_S * 2.0**retried, LONGEST_DELAY_S) * (0.5 + draw / 2), 3)


def _fits(over_at_s: float, policy: Policy) -> bool:
    return policy.deadline_s is None or over_at_s < policy.deadline_s
