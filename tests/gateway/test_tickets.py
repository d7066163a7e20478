"""Tickets: once, within a minute, and not guessable."""

from __future__ import annotations

import pytest

from gateway.errors import Unavailable
from gateway.tickets import LIFETIME_S, MOST_OPEN, Tickets
from tests.gateway.serving import Clock


def test_a_ticket_stands_for_its_key_once() -> None:
    tickets = Tickets(Clock())
    ticket = tickets.issue("key-1")
    assert tickets.redeem(ticket) == "key-1"
    assert tickets.redeem(ticket) is None


def test_a_ticket_that_is_not_spent_opens_twice() -> None:
    """The deliberate bug: looked at instead of taken."""

    class Lasting(Tickets):
        def redeem(self, ticket: str) -> str | None:
            kept = dict(self._open)
            found = super().redeem(ticket)
            self._open = kept
            return found

    tickets = Lasting(Clock())
    ticket = tickets.issue("key-1")
    assert [tickets.redeem(ticket), tickets.redeem(ticket)] != ["key-1", None]


def test_a_ticket_grows_old() -> None:
    clock = Clock()
    tickets = Tickets(clock)
    old, younger = tickets.issue("key-1"), tickets.issue("key-1")
    clock.now += LIFETIME_S - 0.001
    assert tickets.redeem(younger) == "key-1"
    clock.now += 0.001
    assert tickets.redeem(old) is None


@pytest.mark.parametrize("guess", ["", "x", "\udcff", "a" * 100_000])
def test_a_guess_opens_nothing(guess: str) -> None:
    assert Tickets(Clock()).redeem(guess) is None


def test_tickets_are_different_and_long() -> None:
    tickets = Tickets(Clock())
    many = {tickets.issue("key-1") for _ in range(100)}
    assert len(many) == 100
    assert min(map(len, many)) >= 43


def test_memory_is_bounded_and_comes_back() -> None:
    clock = Clock()
    tickets = Tickets(clock)
    for _ in range(MOST_OPEN):
        tickets.issue("key-1")
    with pytest.raises(Unavailable):
        tickets.issue("key-1")
    clock.now += LIFETIME_S
    assert tickets.issue("key-1")
