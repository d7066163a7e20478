"""Bodies in parts: whatever goes in comes out, large parts stand once, and nothing a caller writes is a reference."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.parts import LARGE, join, named, split

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=400)
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | text
values = st.recursive(
    scalars | st.integers(0, 3000).map("é".__mul__),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text | st.just("$blob"), inner, max_size=4),
    max_leaves=12,
)
bodies = st.dictionaries(st.sampled_from(["messages", "input", "tools", "model", "$blob", "x"]), values)


def store(blobs: list[bytes]) -> dict[bytes, bytes]:
    return {hashlib.sha256(blob).digest(): blob for blob in blobs}


def rejoined(body: dict[str, Any], received: bytes | None = None) -> dict[str, Any]:
    skeleton, blobs = split(body, received)
    through_the_log = orjson.loads(orjson.dumps(skeleton))
    return join(through_the_log, store(blobs).__getitem__)


@given(body=bodies)
def test_joining_what_was_split_gives_the_body_back(body: dict[str, Any]) -> None:
    without_infinities = orjson.loads(orjson.dumps(body))
    again = rejoined(without_infinities)
    assert again == without_infinities
    assert orjson.dumps(again) == orjson.dumps(body), "types and the order of keys are kept too"


@given(body=bodies)
def test_what_is_named_is_what_joining_asks_for(body: dict[str, Any]) -> None:
    skeleton, blobs = split(body)
    asked: set[bytes] = set()
    join(skeleton, lambda digest: (asked.add(digest), store(blobs)[digest])[1])
    assert named(skeleton) == asked == set(store(blobs))


def test_the_parts_within_a_message_are_named_too() -> None:
    file = {"type": "text", "text": "word " * 300}
    skeleton, blobs = split({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}, file]}]})
    assert named(skeleton) == set(store(blobs))
    assert len(blobs) == 2


@given(body=bodies)
def test_no_large_part_stays_in_the_skeleton(body: dict[str, Any]) -> None:
    skeleton, _ = split(body)
    for name, value in skeleton.items():
        parts = value if name in {"messages", "input"} and isinstance(value, list) else [value]
        assert all(len(orjson.dumps(part)) <= LARGE for part in parts)


def test_each_message_is_a_part_and_the_same_one_is_stored_once() -> None:
    long = {"role": "user", "content": "word " * 300}
    skeleton, blobs = split({"model": "m", "messages": [long, {"role": "user", "content": "hi"}, long]})
    assert blobs == [orjson.dumps(long)]
    reference = {"$blob": hashlib.sha256(blobs[0]).hexdigest()}
    assert skeleton["messages"] == [reference, {"role": "user", "content": "hi"}, reference]


def test_tools_are_one_part() -> None:
    tools = [{"type": "function", "function": {"name": f"f{n}", "description": "d" * 100}} for n in range(20)]
    skeleton, blobs = split({"tools": tools})
    assert list(skeleton["tools"]) == ["$blob"]
    assert blobs == [orjson.dumps(tools)]


def test_a_small_body_is_not_measured() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "x" * 5000}]}
    assert split(body, received=b"x" * LARGE) == (body, [])


@pytest.mark.parametrize("small", [{"$blob": "00" * 32}, {"$blob": 1, "x": 2}])
@pytest.mark.parametrize("place", [lambda part: {"x": part}, lambda part: {"messages": [part]}])
@pytest.mark.parametrize("written", [b"$blob", b"\\u0024blob", b"\\u0024\\u0062\\u006C\\u006f\\u0062"])
def test_what_a_caller_writes_is_never_taken_for_a_reference(small: Any, place: Any, written: bytes) -> None:
    received = orjson.dumps(place(small)).replace(b"$blob", written)
    body = orjson.loads(received)
    skeleton, blobs = split(body, received)
    assert blobs == [orjson.dumps(small)]
    assert skeleton != body
    assert rejoined(body, received) == body


def test_the_body_is_left_as_it_was() -> None:
    body = {"messages": [{"role": "user", "content": "y" * 3000}], "x": {"$blob": "z"}}
    before = orjson.dumps(body)
    split(body)
    assert orjson.dumps(body) == before


def test_a_missing_blob_is_the_fetchers_error() -> None:
    skeleton, _ = split({"x": "y" * 3000})
    with pytest.raises(KeyError):
        join(skeleton, {}.__getitem__)


def test_a_large_part_of_a_message_is_a_blob_of_its_own() -> None:
    """A file that is sent with other words stands once."""
    file = {"type": "file", "file": {"file_data": "A" * 3000}}
    bodies = [
        {"messages": [{"role": "user", "content": [{"type": "text", "text": word}, file]}]} for word in ("a", "b")
    ]
    made = [split(body) for body in bodies]
    assert [len(blobs) for _, blobs in made] == [2, 2]
    assert orjson.dumps(file) in made[0][1]
    assert orjson.dumps(file) in made[1][1]
    assert [rejoined(body) for body in bodies] == bodies


def test_a_body_that_was_split_before_is_still_joined() -> None:
    """Messages were whole blobs once, with whatever their caller wrote in them."""
    message = {
        "role": "user",
        "content": [{"$blob": "00"}, {"type": "text", "text": "x" * 3000}],
        "$parts": {"0": "00"},
    }
    digest = hashlib.sha256(orjson.dumps(message)).hexdigest()
    assert join({"messages": [{"$blob": digest}]}, store([orjson.dumps(message)]).__getitem__) == {
        "messages": [message]
    }
