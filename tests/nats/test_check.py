"""The check itself: it must notice everything that it is there to notice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.nats.check import Said, compared

ALL = [Said(f"abstractcore.events.thing.{origin}", (n, 0), f"{n}", b"%d" % n) for origin in "ab" for n in (1, 2, 3)]


def test_nothing_is_wrong_with_the_same() -> None:
    assert compared("LEDGER", ALL, ALL) == []


def test_origins_may_be_in_any_order() -> None:
    assert compared("LEDGER", ALL, ALL[3:] + ALL[:3]) == []


def test_a_stub_stands_for_its_event() -> None:
    assert compared("LEDGER", ALL, [replace(ALL[0], payload=b"{}", whole=1), *ALL[1:]]) == []


@pytest.mark.parametrize(
    "has",
    [
        ALL[1:],
        ALL[:4] + ALL[5:],
        ALL[:-1],
        ALL[:3],
        [*ALL, ALL[2]],
        [ALL[0], ALL[0], *ALL[2:]],
        [ALL[1], ALL[0], *ALL[2:]],
        [*ALL, replace(ALL[0], subject="abstractcore.events.thing.c")],
        [replace(ALL[0], payload=b"0"), *ALL[1:]],
        [replace(ALL[0], digest="0"), *ALL[1:]],
        [replace(ALL[0], subject="abstractcore.events.other.a"), *ALL[1:]],
        [replace(ALL[0], payload=b"{}", whole=2), *ALL[1:]],
        [replace(ALL[0], payload=b"{}", digest="0", whole=1), *ALL[1:]],
    ],
    ids=[
        "the first is missing", "one is missing", "the last is missing", "an origin is missing", "one is there twice",
        "one is there twice and another not at all", "two changed places", "an origin that nobody knows",
        "another payload", "another digest", "another type", "a stub of another length", "a stub of another event",
    ],
)  # fmt: skip
def test_everything_else_is(has: list[Said]) -> None:
    assert compared("LEDGER", ALL, has)
