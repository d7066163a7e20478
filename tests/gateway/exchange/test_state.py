"""An exchange is a fold of its events."""

from __future__ import annotations

from eventstore.catalogue.values import Usd
from gateway.exchange.inputs import Input
from gateway.exchange.state import Exchange, evolve, fold, total
from tests.gateway.exchange.given import ID, Given, answered, failed, interrupted, left, refused, submitted


def phases(*happened: Input) -> list[str]:
    """The phase after each event."""
    given, exchange = Given(), Exchange(ID)
    found: list[str] = []
    for one in happened:
        for event in given.when(one).then:
            exchange = evolve(exchange, event)
            found.append(exchange.phase)
    assert exchange == given.exchange
    return found


def test_it_goes_through_its_phases() -> None:
    begun = ["received", "routed", "generating"]
    assert phases(submitted(), answered()) == [*begun, "settled", "ended"]
    assert phases(submitted(), failed()) == [*begun, "settled", "ended"]
    assert phases(submitted(), left()) == [*begun, "settled", "ended"]
    assert phases(submitted(), interrupted()) == [*begun, "settled", "ended"]
    assert phases(refused()) == ["received", "ended"]


def test_it_knows_what_later_decisions_need() -> None:
    exchange = Given(submitted(retained=False, recorded={})).exchange
    assert (exchange.version, exchange.attempt, exchange.provider, exchange.model) == (3, 1, "p", "m")
    assert (exchange.retained, exchange.prompt_length) == (False, 2)


def test_costs_add_up_until_one_is_unknown() -> None:
    assert total(Usd(2), Usd(3)) == Usd(5)
    assert total(Usd(2), None) is None
    assert total(None, Usd(2)) is None


def test_the_fold_of_all_is_the_fold_of_its_parts() -> None:
    given = Given()
    events = [*given.when(submitted()).then, *given.when(answered()).then]
    for cut in range(len(events) + 1):
        assert fold(fold(Exchange(ID), events[:cut]), events[cut:]) == given.exchange
