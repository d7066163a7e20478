"""How deep a value is, and that what passes can be written."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.nesting import deeper_than

VALUES = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
)


def depth(value: object) -> int:
    """By recursion, as one would define it."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inside is None else 1 + max(map(depth, inside), default=0)


@given(VALUES, st.integers(0, 6))
def test_it_is_the_depth(value: object, levels: int) -> None:
    assert deeper_than(value, levels, b"{" * 100) == (depth(value) > levels)


@pytest.mark.parametrize(("levels", "deep"), [(199, False), (200, False), (201, True), (1000, True)])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_at_the_limit(levels: int, deep: bool, opening: str) -> None:
    text = (opening * levels + "1" + ("]" if opening == "[" else "}") * levels).encode()
    value = orjson.loads(text)
    assert deeper_than(value, 200, text) == deep
    if not deep:
        assert orjson.dumps(value) == text


def test_brackets_in_texts_do_not_count() -> None:
    value = {"a": "[" * 1000}
    assert not deeper_than(value, 200, orjson.dumps(value))
