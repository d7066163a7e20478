"""Server-sent events: cutting and reading."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.sse import FRAME_LIMIT, PING, SSEFramer, read_frame
from gateway.wire.values import WireError

LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
LINES = st.sampled_from(
    [b"data: a", b"data:b", b"data", b"event: e", b": comment", b":", b"id: 1", b"x", b"\xff\x1e\x1f"]
)


def cut(parts: list[bytes]) -> list[bytes]:
    framer = SSEFramer()
    frames = [frame for part in parts for frame in framer.feed(part)]
    return frames + framer.end()


@given(st.lists(st.lists(LINES, max_size=4), max_size=6), LINE_ENDS, st.lists(st.integers(0, 200), max_size=6))
def test_any_split_gives_the_same_frames(events: list[list[bytes]], end: bytes, cuts: list[int]) -> None:
    data = b"".join(b"".join(line + end for line in lines) + end for lines in events)
    places = sorted({0, len(data), *(at for at in cuts if at < len(data))})
    parts = [data[a:b] for a, b in pairwise(places)]
    whole = cut([data])
    assert cut(parts) == whole
    assert cut([data[i : i + 1] for i in range(len(data))]) == whole


@given(st.lists(st.sampled_from([b"data: a", b"x", b""]), max_size=9))
def test_blank_lines_are_found_whichever_way_lines_end(lines: list[bytes]) -> None:
    assert cut([b"\n".join(lines)]) == [f.replace(b"\r\n", b"\n") for f in cut([b"\r\n".join(lines)])]


def test_a_read_may_end_anywhere() -> None:
    data = b"data: a\n\ndata: b\ndata: c\n\n\ndata: d\n\n"
    for at in range(len(data)):
        assert cut([data[:at], data[at:]]) == [b"data: a", b"data: b\ndata: c", b"data: d"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_each_kind_of_line_end(end: bytes) -> None:
    data = end.join([b"event: a", b"data: 1", b"", b": comment", b"", b"data: 2", b"data: 3", b"", b""])
    assert [read_frame(frame) for frame in cut([data])] == [(b"a", b"1"), (b"", b"2\n3")]


def test_comments_alone_are_dropped_and_among_lines_are_not_data() -> None:
    assert cut([PING + b": a\n: b\n\n"]) == []
    (frame,) = cut([b": OPENROUTER PROCESSING\ndata: 1\n\n"])
    assert read_frame(frame) == (b"", b"1")


def test_a_byte_order_mark_is_no_data() -> None:
    assert cut([b"\xef", b"\xbb\xbfda", b"ta: 1\n\n"]) == [b"data: 1"]


def test_an_unfinished_frame_comes_at_the_end() -> None:
    assert cut([b"data: 1\n\ndata: 2"]) == [b"data: 1", b"data: 2"]
    assert cut([b"data: 1\n\n\n\n"]) == [b"data: 1"]
    assert cut([b"data: 1\n\n: bye"]) == [b"data: 1"]


@pytest.mark.parametrize("piece", [1 << 10, 1 << 20])
def test_a_frame_has_a_bound(piece: int) -> None:
    with pytest.raises(WireError, match="1 MiB"):
        cut([b"x" * piece] * (FRAME_LIMIT // piece + 1))


@pytest.mark.parametrize(
    ("frame", "read"),
    [
        (b"data: {}", (b"", b"{}")),
        (b"data:{}", (b"", b"{}")),
        (b"data:  x", (b"", b" x")),
        (b"event: e\ndata: x", (b"e", b"x")),
        (b"event:e\nid: 7\nretry: 1", (b"e", None)),
        (b"data\ndata: x", (b"", b"\nx")),
        (b"data:", (b"", None)),
        (b"data: ", (b"", None)),
    ],
)
def test_reading_a_frame(frame: bytes, read: tuple[bytes, bytes | None]) -> None:
    assert read_frame(frame) == read
