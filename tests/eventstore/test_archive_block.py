"""Whatever rows hold, a block of them gives back the same rows."""

from __future__ import annotations

from hashlib import sha256

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore import archive_block, columns
from eventstore.chain import Chain, chained
from eventstore.envelope import NewEvent, Recorded, RecordedEvent, RecordedFrames
from eventstore.errors import LogCorrupt

NAMES = st.sampled_from(["request-1", "request-2", "request", "node-a", 'a "quoted" näme'])
TEXTS = st.sampled_from(["", "%b", "100 %", 'a "quoted" text', "näme\n", "-1.5e3", sha256(b"").hexdigest(), "AB" * 32])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False) | TEXTS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS | st.text(), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.dictionaries(st.sampled_from(["request_id", "text", "%b", "count"]) | st.text(), VALUES, max_size=4)
PIECES = st.sampled_from([b"\x1e", b"\x1f", b"\x1e\x1f", b"abc", b"%b", b"\x00", b"\n"])
BIG = (1 << 62) - 1


@st.composite
def blocks(draw: st.DrawFn) -> list[Recorded]:
    """Rows of any content; a third of the events' data is not what their columns say, or is no JSON."""
    first = draw(st.integers(1, BIG))
    chains = {name: Chain(name, oseq=draw(st.integers(0, BIG)), digest=b"d" * 32) for name in ("na1", "nb2")}
    return [
        draw(frames(position)) if draw(st.booleans()) else draw(events(position, chains))
        for position in range(first, first + draw(st.integers(1, 12)))
    ]


@st.composite
def frames(draw: st.DrawFn, position: int) -> RecordedFrames:
    number = st.integers(0, 3) | st.integers(0, BIG)
    generation = max(0, position - draw(st.integers(1, 4)))
    content = b"".join(draw(st.lists(PIECES | st.binary(max_size=8), max_size=6)))
    return RecordedFrames(
        position, generation, draw(number), draw(number), draw(number), draw(number), draw(number), content
    )


@st.composite
def events(draw: st.DrawFn, position: int, chains: dict[str, Chain]) -> RecordedEvent:
    chain, stream, version = chains[draw(st.sampled_from(sorted(chains)))], draw(NAMES), draw(st.integers(1, 3))
    fields = orjson.dumps(draw(FIELDS))
    if draw(st.booleans()):
        fields = b'{"request_id":"1"' + (b"," + fields[1:] if len(fields) > 2 else b"}")
    before, now = chain.digest, draw(st.integers(1, 1 << 50))
    data = chain.link(NewEvent("thing_happened", draw(st.integers(1, 3)), fields), stream, version, now)
    if draw(st.sampled_from([False, False, True])):
        data = draw(st.binary(max_size=40)) + data[draw(st.integers(0, 30)) :]
        chain.digest = chained(before, data)
    return RecordedEvent(
        position, chain.origin, chain.oseq, stream, version, "thing_happened", chain.at, 0, data, chain.digest
    )


@settings(max_examples=100, deadline=None)
@given(blocks())
def test_rows_come_back_as_they_were(rows: list[Recorded]) -> None:
    assert archive_block.unpacked(archive_block.packed(rows)) == rows


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, (1 << 64) - 1)), st.lists(st.binary()), st.lists(st.integers(-(1 << 63), (1 << 63) - 1)))
def test_columns_come_back_as_they_were(some: list[int], texts: list[bytes], signed: list[int]) -> None:
    reader = columns.ColumnReader(
        columns.numbers(some) + columns.texts(texts) + columns.numbers(columns.folded(signed))
    )
    assert (reader.numbers(), reader.texts(), columns.unfolded(reader.numbers())) == (some, texts, signed)


def test_columns_that_end_too_soon_are_refused() -> None:
    content = columns.texts([b"one", b"two"])
    for length in range(len(content)):
        with pytest.raises(ValueError, match="too soon"):
            columns.ColumnReader(content[:length]).texts()


@pytest.mark.parametrize("wrong", [None, "1", 1.5, 1 << 64])
def test_a_column_of_another_type_is_damage(wrong: object) -> None:
    row = RecordedFrames(2, 1, 0, 1, 1, wrong, 0, b"x")  # type: ignore[arg-type]  # as a flipped bit makes it
    with pytest.raises(LogCorrupt):
        archive_block.packed([row])
