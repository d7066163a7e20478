"""What an audit makes of what it reads, and when a server is replaced: given, when, then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pytest

from eventstore.relay import RelayStatus
from eventstore.relay_audit import Gapless
from gateway.follower.stuck import Stuck

State = Literal["down", "catching_up", "live", "full", "fenced"]


@pytest.mark.parametrize(
    ("stored", "gaps"),
    [
        ("a1 a2 a3", []),
        ("a1 b1 b2 a2", []),
        ("b1 b2 a1 a2", []),
        ("a1 a3", ["a3"]),
        ("a2 a3", ["a2"]),
        ("a1 b1 a2 b3 a3", ["b3"]),
        ("a1 c7 a2 c9", []),  # not ours
        ("a1 a1 a2", []),  # twice is not too few
    ],
)
def test_a_ledger_without_gaps(stored: str, gaps: Sequence[str]) -> None:
    comparison = Gapless(["a", "b"])
    assert [name for name in stored.split() if not comparison.follows(name[0], (int(name[1:]), 0))] == gaps


def told(looks: Sequence[tuple[float, bool, State, int]]) -> list[float]:
    """When a `Stuck` with 10 s of patience says so, asked at these times, of (running, state, position)."""
    stuck = Stuck(10.0)
    return [now for now, running, state, position in looks if stuck(now, running, _status(state, position))]


def _status(state: State, position: int) -> RelayStatus:
    return RelayStatus(state, position, position, 100, 100 - position, 0, 0, None)


def test_a_server_that_stores_nothing_is_replaced_and_so_is_the_next_one() -> None:
    assert told([(float(now), True, "catching_up", 5) for now in range(0, 30)]) == [11.0, 22.0]


def test_a_server_that_hangs_is_replaced_though_nothing_waits_for_it() -> None:
    assert told([(float(now), True, "down", 100) for now in range(0, 12)]) == [10.0]


@pytest.mark.parametrize("state", ["live", "full", "fenced"])
def test_a_server_is_left_where_another_would_change_nothing(state: State) -> None:
    assert told([(float(now), True, state, 5) for now in range(0, 100)]) == []


def test_a_server_that_is_slow_is_left() -> None:
    assert told([(float(now), True, "catching_up", now // 5) for now in range(0, 100)]) == []


def test_a_server_that_is_being_started_has_its_time() -> None:
    assert told([(float(now), now % 8 != 0, "down", 5) for now in range(0, 100)]) == []
