"""Circuit breakers: closed, open after failures in a row, half open for one probe, closed or open again. Pure: the
clock is given. Times are microseconds since 1970 UTC.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from eventstore.catalogue.circuit import CircuitClosed, CircuitHalfOpened, CircuitOpened
from eventstore.catalogue.event import Event
from eventstore.value import value

State = Literal["closed", "open", "half_open"]
Outcome = Literal["answered", "failed", "told_to_wait"]

THRESHOLD = 5
"""So many failures in a row open a circuit."""
LONGEST_COOL_DOWN_S = 300.0
FAULTS = frozenset(
    {"connect_failed", "connect_timeout", "first_byte_timeout", "idle_timeout", "connection_lost", "cut"}
)
"""Kinds of failures that are the provider's fault; its 5xx are too."""


@value
class Circuit:
    """How it stands with one provider and credential. `cool_down_s` is how long the next opening lasts."""

    state: State = "closed"
    failures: int = 0
    opened_at: int | None = None
    retry_at: int | None = None
    cool_down_s: float = 0.0


CLOSED = Circuit()


def outcome_of(kind: str, status: int | None, retry_after_s: float | None) -> Outcome | None:
    """What a failure says of its provider: that it is ill, wants us to wait, or is well (a 4xx); None: nothing."""
    if status is None:
        return "failed" if kind in FAULTS else None
    if status == 429:
        return None if retry_after_s is None else "told_to_wait"
    return "failed" if status >= 500 else "answered"


def after(before: Circuit, outcome: Outcome, now_us: int, first_s: float, wait_s: float = 0.0) -> Circuit:
    """The circuit after an attempt. `first_s` is the first cool-down, which doubles with each probe that fails."""
    if outcome == "answered":
        return CLOSED
    failures = before.failures + (outcome == "failed")
    if outcome == "told_to_wait":
        until = now_us + _us(min(wait_s, LONGEST_COOL_DOWN_S))
        return Circuit("open", failures, now_us, max(until, before.retry_at or 0), before.cool_down_s or first_s)
    early = before.state == "open" and now_us < (before.retry_at or 0)  # a request that had nowhere else to go
    if early or (before.state == "closed" and failures < THRESHOLD):
        return replace(before, failures=failures)
    lasts = min(before.cool_down_s or first_s, LONGEST_COOL_DOWN_S)
    return Circuit("open", failures, now_us, now_us + _us(lasts), min(lasts * 2, LONGEST_COOL_DOWN_S))


def probing(before: Circuit, now_us: int, first_s: float) -> Circuit | None:
    """The circuit once a request goes there to see; None where it is too early, or one is under way."""
    if before.state == "closed" or now_us < (before.retry_at or 0):
        return None
    lasts = min(before.cool_down_s or first_s, LONGEST_COOL_DOWN_S)
    return replace(before, state="half_open", retry_at=now_us + _us(lasts))


def no_longer(circuit: Circuit, now_us: int) -> Circuit:
    """The circuit of an earlier start, whose clock may have been ahead: nobody waits longer than the longest."""
    if circuit.retry_at is None:
        return circuit
    return replace(circuit, retry_at=min(circuit.retry_at, now_us + _us(LONGEST_COOL_DOWN_S)))


def event_of(
    before: Circuit, now: Circuit, provider: str, credential: str | None, reason: str, inputs: dict[str, Any]
) -> Event | None:
    """What is recorded of a step; None where neither state nor times changed."""
    if now.state == "closed":
        closed = CircuitClosed(provider=provider, credential=credential, inputs=inputs)
        return None if before.state == "closed" else closed
    if (before.state, before.retry_at) == (now.state, now.retry_at):
        return None
    assert now.opened_at is not None
    assert now.retry_at is not None
    said = (now.failures, now.opened_at, now.retry_at, now.cool_down_s)
    names = dict(zip(("failures", "opened_at", "retry_at", "cool_down_s"), said, strict=True))
    more: dict[str, Any] = {"provider": provider, "credential": credential, "inputs": inputs, **names}
    return CircuitOpened(reason=reason, **more) if now.state == "open" else CircuitHalfOpened(**more)


def evolve(event: CircuitOpened | CircuitHalfOpened | CircuitClosed) -> Circuit:
    """The circuit after what was recorded of it: each event says all."""
    if isinstance(event, CircuitClosed):
        return CLOSED
    state: State = "open" if isinstance(event, CircuitOpened) else "half_open"
    return Circuit(state, event.failures, event.opened_at, event.retry_at, event.cool_down_s)


def _us(seconds: float) -> int:
    return int(seconds * 1_000_000)
