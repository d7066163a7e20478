"""Names of fields are what a client chose to send: in a header they can do no harm."""

from __future__ import annotations

import pytest

from gateway.exchange.outlet import LONGEST_HEADER, in_header


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), ""),
        (("seed", "messages[0].name"), "seed, messages[0].name"),
        (("a\r\nset-cookie: b", "c,d", "\x1f"), "a%0D%0Aset-cookie%3A b, c%2Cd, %1F"),
        (("größe",), "gr%C3%B6%C3%9Fe"),
        (("x" * 2000, "y"), "..."),
        (("seed", "x" * 2000), "seed, ..."),
    ],
)
def test_names_are_said_plainly_or_encoded(names: tuple[str, ...], said: str) -> None:
    assert in_header(names) == said


def test_many_names_are_cut() -> None:
    said = in_header([f"field_{number}" for number in range(1000)])
    assert said.endswith(", ...")
    assert len(said) < LONGEST_HEADER + 10
