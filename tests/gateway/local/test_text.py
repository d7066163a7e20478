"""Text out of a model: whole characters, cut at stop strings however it comes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstreams.local.text import Detokenizer, Stops

SAID = "naïve → 🎉 end"


def bytewise(ids: list[int]) -> str:
    return bytes(ids).decode(errors="replace")


def test_a_character_is_said_once_all_its_bytes_are_there() -> None:
    text = Detokenizer(bytewise)
    pieces = [text.add(byte) for byte in SAID.encode()]
    assert "".join(pieces) + text.end() == SAID
    assert not any("\ufffd" in piece for piece in pieces)


def test_what_never_becomes_whole_is_said_at_the_end() -> None:
    text = Detokenizer(bytewise)
    assert text.add("→".encode()[0]) == ""
    assert text.end() == "\ufffd"


def split(text: str, cuts: list[int]) -> list[str]:
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[a:b] for a, b in pairwise(places)]


@given(
    st.text("abc", max_size=12), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3), st.lists(st.integers(0))
)
def test_stops_cut_the_same_wherever_the_text_is_split(text: str, stops: list[str], cuts: list[int]) -> None:
    whole = Stops(stops)
    expected = whole.feed(text) + whole.end()
    assert not any(stop in expected for stop in stops)
    assert text.startswith(expected)
    parts = Stops(stops)
    assert "".join([parts.feed(piece) for piece in split(text, cuts)]) + parts.end() in prefixes(text, stops)
    assert parts.stopped == whole.stopped


def prefixes(text: str, stops: list[str]) -> set[str]:
    """Before any stop that a reader of single characters or of the whole could have met first."""
    return {text[: text.find(stop)] for stop in stops if stop in text} or {text}


@pytest.mark.parametrize("pieces", [["one END two"], ["one E", "ND two"], ["one ", "E", "N", "D"]])
def test_nothing_of_a_stop_is_shown(pieces: list[str]) -> None:
    stops = Stops(["END"])
    assert [shown for piece in pieces if (shown := stops.feed(piece))] == ["one "]
    assert stops.stopped
