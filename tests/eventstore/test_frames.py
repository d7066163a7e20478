"""Packing loses nothing: whatever the frames, batches and template, the same bytes come back and the digests agree."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.envelope import NewFrames, RecordedFrames
from eventstore.errors import LogCorrupt
from eventstore.frames import (
    ELIDED,
    GS,
    JOINED,
    PAIRED,
    PLAIN,
    RS,
    TEMPLATE,
    US,
    FrameReader,
    FrameRun,
    Middles,
    Template,
)

ENDS = Template(b'{"content":"', b'"}')


def stored(rows: list[NewFrames]) -> list[RecordedFrames]:
    return [
        RecordedFrames(n, 1, 1, row.frame, row.count, row.offset_us, row.codec, row.bytes)
        for n, row in enumerate(rows, 2)
    ]


def unpacked(rows: list[NewFrames]) -> tuple[list[bytes], FrameReader]:
    reader = FrameReader()
    return [frame for row in stored(rows) for frame in reader.unpack(row)], reader


def skipped(rows: list[NewFrames]) -> FrameReader:
    reader = FrameReader()
    for row in stored(rows):
        reader.skip(row)
    return reader


any_frame = st.one_of(
    st.binary(max_size=40),
    st.binary(max_size=8).map(lambda middle: ENDS.prefix + middle + ENDS.suffix),
    st.sampled_from(
        [b"", RS, US, US + b"x", ENDS.prefix, ENDS.suffix, ENDS.prefix + ENDS.suffix, ENDS.prefix[:-1] + b'"}']
    ),
)
batches = st.lists(st.lists(any_frame, min_size=1, max_size=5), max_size=8)


@dataclass(frozen=True)
class Opening:
    """Which frame of which batch gives the template, if that frame has its ends."""

    batch: int
    index: int


@given(batches, st.none() | st.builds(Opening, st.integers(0, 7), st.integers(0, 4)))
def test_every_frame_comes_back_verbatim(frames: list[list[bytes]], opening: Opening | None) -> None:
    run = FrameRun(1)
    rows: list[NewFrames] = []
    for number, batch in enumerate(frames):
        opens = None
        if opening and opening.batch == number and opening.index < len(batch):
            whole = batch[opening.index]
            cut = len(whole) // 2
            opens = (opening.index, Template(whole[:cut], whole[len(whole) - cut // 2 :] if cut // 2 else b""))
        packed, _ = run.pack(batch, number, opens)
        rows += packed
    found, reader = unpacked(rows)
    assert found == [frame for batch in frames for frame in batch]
    assert (reader.count, reader.digest) == (run.count, run.digest)
    counted = skipped(rows)
    assert (counted.count, counted.digest, counted.template) == (run.count, run.digest, reader.template)


@given(st.lists(st.binary(max_size=8).filter(lambda middle: RS not in middle and US not in middle), min_size=2))
def test_what_frames_share_is_stored_once(middles: list[bytes]) -> None:
    run = FrameRun(1)
    frames = [ENDS.prefix + middle + ENDS.suffix for middle in middles]
    rows = run.pack(frames[:1], 0, (0, ENDS))[0] + run.pack(frames[1:], 1)[0]
    assert [row.codec for row in rows] == [TEMPLATE, ELIDED]
    assert rows[1].bytes == RS.join(US + middle for middle in middles[1:])
    assert unpacked(rows)[0] == frames


@given(st.lists(st.binary(max_size=8).filter(lambda middle: RS not in middle and US not in middle), min_size=1))
def test_a_frame_alone_is_packed_as_it_is_among_others(middles: list[bytes]) -> None:
    alone, together = FrameRun(1), FrameRun(1)
    frames = [ENDS.prefix + middle + ENDS.suffix for middle in middles]
    for run in (alone, together):
        run.pack(frames[:1], 0, (0, ENDS))
    packed = [alone.pack([frame], 1) for frame in frames]
    (among,), _ = together.pack(frames, 1)
    assert RS.join(rows[0].bytes for rows, _ in packed) == among.bytes
    assert [(rows[0].codec, parts) for rows, parts in packed] == [(ELIDED, [Middles(middle)]) for middle in middles]


def by_itself(frame: bytes, ends: Template) -> bytes:
    """What is kept of a frame, looked at alone."""
    both = len(ends.prefix) + len(ends.suffix)
    if not (frame.startswith(ends.prefix) and frame.endswith(ends.suffix) and len(frame) >= both):
        return frame
    middle = frame[len(ends.prefix) : len(frame) - len(ends.suffix)]
    if not ends.between:
        return US + middle
    at = middle.find(ends.between)
    return frame if at < 0 or GS in middle else US + middle[:at] + GS + middle[at + len(ends.between) :]


letters = st.text("ab", max_size=3).map(str.encode)


@given(
    st.builds(Template, letters, letters, letters), st.lists(st.text("abc\x1d", max_size=7).map(str.encode), max_size=9)
)
def test_each_frame_is_elided_as_if_it_were_alone(ends: Template, frames: list[bytes]) -> None:
    # given ends and frames of so few letters that they overlap in every way
    run, reader = FrameRun(1), FrameReader()
    opened = ends.prefix + b"c" + ends.between + b"c" + ends.suffix
    # when they are packed behind the frame that gives the template
    (row,), parts = run.pack([opened, *frames], 0, (0, ends))
    # then each is kept as it would be alone, and the parts are those that every later reader finds
    head = 5 if ends.between else 3
    assert row.bytes[head:] == RS.join([opened, *(by_itself(frame, ends) for frame in frames)])
    assert parts == reader.parts(*stored([row]))
    assert (reader.digest, reader.template) == (run.digest, ends)
    assert FrameReader().unpack(*stored([row])) == [opened, *frames]


TIMED = Template(b'{"at":"', b'"}', b'","content":"')
"""Ends, and what stands between a time and a text."""


@given(st.lists(st.tuples(st.text("01", max_size=3), st.text("abc\x1d", max_size=3)), min_size=2))
def test_two_things_that_differ_are_stored_without_what_stands_between_them(pairs: list[tuple[str, str]]) -> None:
    frames = [TIMED.prefix + f'{time}","content":"{text}'.encode() + TIMED.suffix for time, text in pairs]
    run = FrameRun(1)
    rows = run.pack(frames[:1], 0, (0, TIMED))[0] + run.pack(frames[1:], 1)[0]
    alone = [row for frame in frames[1:] for row in run.pack([frame], 2)[0]]
    assert rows[0].codec == PAIRED
    pieces = [
        frame if "\x1d" in text else f"\x1f{time}\x1d{text}".encode()
        for frame, (time, text) in zip(frames, pairs, strict=True)
    ]
    assert rows[1].bytes == RS.join(pieces[1:])
    assert [row.bytes for row in alone] == pieces[1:]
    assert unpacked([*rows, *alone])[0] == frames + frames[1:]


def test_no_frames_are_no_row() -> None:
    run = FrameRun(1)
    assert run.pack([], 0) == ([], [])
    assert run.count == 0


def test_the_codecs_by_example() -> None:
    run = FrameRun(1)
    one, two = run.pack([b"a"], 0)[0], run.pack([b"b", b"c"], 1)[0]
    odd, items = run.pack([b"d" + RS, b"e"], 2)
    assert [(row.codec, row.frame, row.count) for row in (*one, *two, *odd)] == [
        (PLAIN, 1, 1), (JOINED, 2, 2), (PLAIN, 4, 1), (PLAIN, 5, 1),
    ]  # fmt: skip
    assert items == [b"d" + RS, b"e"]


def row(**changes: object) -> RecordedFrames:
    values: dict[str, object] = {"frame": 1, "count": 1, "offset_us": 0, "codec": PLAIN, "bytes": b"x"}
    return RecordedFrames(position=9, generation=1, back=0, **(values | changes))  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize(
    "damaged",
    [
        row(frame=2),
        row(count=2, codec=JOINED),
        row(codec=9),
        row(codec=ELIDED, bytes=US + b"x"),
        row(codec=TEMPLATE, bytes=b"\x05\x01\x01x"),
        row(codec=TEMPLATE, bytes=b"\x00\x09\x09x"),
        row(codec=TEMPLATE, bytes=b"\xff\xff\xff"),
        row(codec=TEMPLATE, bytes=b""),
        row(codec=PAIRED, bytes=b"\x00\x01\x01\x00\x01<->"),
        row(codec=PAIRED, bytes=b"\x00\x01\x01\x01\x02<->"),
        row(codec=PAIRED, bytes=b"\x00\x01\x01\x01"),
    ],
)
def test_a_row_that_cannot_have_been_written_is_named(damaged: RecordedFrames) -> None:
    with pytest.raises(LogCorrupt, match="position 9"):
        FrameReader().unpack(damaged)


@given(st.text("\x1e\x1fx", max_size=9), st.sampled_from([JOINED, ELIDED]), st.integers(1, 9))
def test_a_row_has_as_many_frames_as_were_counted_or_is_refused(packed: str, codec: int, count: int) -> None:
    reader = FrameReader()
    reader.unpack(row(codec=TEMPLATE, bytes=b"\x00\x01\x01<>"))
    try:
        frames = reader.unpack(row(frame=2, codec=codec, count=count, bytes=packed.encode()))
    except LogCorrupt:
        return
    assert len(frames) == count == reader.count - 1


@given(st.lists(st.binary(max_size=20), min_size=1), st.data())
def test_a_changed_byte_changes_the_digest(frames: list[bytes], data: st.DataObject) -> None:
    run = FrameRun(1)
    rows = run.pack([b"first", *frames], 7)[0]
    changed = data.draw(st.integers(0, len(rows) - 1))
    bytes_ = rows[changed].bytes or b"x"
    rows[changed] = NewFrames(
        run, rows[changed].frame, rows[changed].count, 7, rows[changed].codec, bytes_[:-1] + bytes([bytes_[-1] ^ 1])
    )
    reader = FrameReader()
    try:
        for stored_row in stored(rows):
            reader.unpack(stored_row)
    except LogCorrupt:
        return
    assert reader.digest != run.digest
