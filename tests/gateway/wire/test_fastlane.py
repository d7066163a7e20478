"""The fast lane never changes a text, whatever an upstream puts between the quotes."""

from __future__ import annotations

import json
from collections.abc import Callable

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eventstore.envelope import RecordedFrames
from eventstore.frames import PAIRED, SEP, FrameReader, FrameRun, Middles, Template
from eventstore.frames import TEMPLATE as TEMPLATE_ROW
from gateway.wire.anthropic_messages import MessagesStreamDecoder
from gateway.wire.fastlane import (
    LOOKS,
    batches,
    differs_before,
    differs_behind,
    find_template,
    loads_lenient,
    read_run,
)
from gateway.wire.ollama import OllamaChatDecoder
from gateway.wire.openai_chat import ChatStreamDecoder
from gateway.wire.openai_chat_answer import ChatStream
from gateway.wire.values import Decoder, Piece, TextRun, WireError
from tests.gateway.wire.reading import fold, plain, read

ADVERSARIAL = st.text(alphabet='"\\,{}[]:a\n\t\x00é🎉\u2028', max_size=8)
INSIDES = st.lists(st.sampled_from([*'"\\,{}[] nu0a1', "\x1e", '","', '\\"', "\\u00", "\\\\", "é"]), max_size=6)
TEMPLATE = Template(b'data: {"choices":[{"index":0,"delta":{"content":"', b'"}}]}')


def frame(text: str, ascii_only: bool = False) -> bytes:
    escaped = json.dumps(text, ensure_ascii=ascii_only).encode()
    return TEMPLATE.prefix + escaped[1:-1] + TEMPLATE.suffix


def one_by_one(frames: list[bytes]) -> list[object]:
    """What each means on its own; `WireError` where one means nothing."""
    return plain(ChatStreamDecoder().decode(frames, None))


class Whole:
    """A framer whose parts are frames."""

    def feed(self, data: bytes) -> list[bytes]:
        return data.split(b"\n\n")

    def end(self) -> list[bytes]:
        return []


@given(st.lists(ADVERSARIAL, min_size=1, max_size=8), st.booleans())
@example(["a", "\\", '"', "b"], False)
@example(["a", '","'], False)
def test_any_texts_come_out_as_they_went_in(texts: list[str], ascii_only: bool) -> None:
    frames = [frame(text, ascii_only) for text in ["first", *texts]]
    pieces = read(Whole(), ChatStreamDecoder(), [b"\n\n".join(frames)])
    assert "".join(str(piece["text"]) for piece in plain(pieces)) == "first" + "".join(texts)


@given(st.lists(INSIDES, min_size=1, max_size=5))
@example([["a\\"], ['"b']])
@example([['","'], []])
@example([['\\","'], ["a"]])
@example([["x", '","', "y"], ["\\"]])
def test_middles_that_are_no_string_mean_what_their_frames_mean(insides: list[list[str]]) -> None:
    """A quote or a backslash in one middle must never be balanced by another one."""
    frames = [frame("first"), *(TEMPLATE.prefix + "".join(inside).encode() + TEMPLATE.suffix for inside in insides)]
    try:
        alone = one_by_one(frames)
    except WireError:
        with pytest.raises(WireError):
            read(Whole(), ChatStreamDecoder(), [b"\n\n".join(frames)])
        return
    assert plain(read(Whole(), ChatStreamDecoder(), [b"\n\n".join(frames)])) == alone


PADDED = Template(TEMPLATE.prefix, b'"}', b'"},"logprobs":null}],"obfuscation":"')
TIMED = Template(b'{"created_at":"', b'"},"done":false}', b'","message":{"role":"assistant","content":"')
"""What differs is a text and what pads it; a time and a text."""
LANES: dict[str, tuple[Template, Callable[[], Decoder], bytes]] = {
    "padded": (PADDED, ChatStreamDecoder, b"Hi\x1dxx"),
    "timed": (TIMED, OllamaChatDecoder, b"2026-11-21T01:26:13Z\x1dHi"),
}
BETWEEN = [PADDED.between.decode(), TIMED.between.decode()]
INSIDES_TWO = [*'"\\,{}[] a', "\0", "\x1d", '","', '\\"', "é", *BETWEEN]
INSIDE_TWO = st.lists(st.sampled_from(INSIDES_TWO), max_size=5).map("".join)


@pytest.mark.parametrize("lane", LANES)
@given(pairs=st.lists(st.tuples(INSIDE_TWO, INSIDE_TWO), min_size=1, max_size=4))
@example(pairs=[("a", "b"), ("a\\", '"b')])
@example(pairs=[(BETWEEN[0], BETWEEN[1])])
@example(pairs=[("a", "\0")])
@example(pairs=[("\0", "a")])
def test_two_things_that_differ_mean_what_their_frames_mean(lane: str, pairs: list[tuple[str, str]]) -> None:
    template, decoder, first = LANES[lane]
    middles = [one.encode() + template.between + other.encode() for one, other in pairs]
    frames = [template.around(first), *(template.prefix + middle + template.suffix for middle in middles)]
    try:
        alone = plain(decoder().decode(frames, None))
    except WireError:
        with pytest.raises(WireError):
            read(Whole(), decoder(), [b"\n\n".join(frames)])
        return
    assert plain(read(Whole(), decoder(), [b"\n\n".join(frames)])) == alone


@pytest.mark.parametrize("lane", LANES)
@given(texts=st.lists(ADVERSARIAL, min_size=1, max_size=8))
def test_of_two_things_that_differ_the_text_comes_out(lane: str, texts: list[str]) -> None:
    template, decoder, first = LANES[lane]
    escaped = [orjson.dumps(text)[1:-1] for text in texts]
    middles = [each + b"\x1dxyz" if lane == "padded" else b"01:26\x1d" + each for each in escaped]
    frames = [*map(template.around, [first, *middles])]
    assert decoder().template(frames, None) == (0, template)
    pieces = read(Whole(), decoder(), [b"\n\n".join(frames)])
    assert TextRun in map(type, pieces) or any(not each or b"\\" in each for each in escaped)
    assert fold(pieces).choices()[0]["message"]["content"] == "Hi" + "".join(texts)


@pytest.mark.parametrize("nothing", [0, False, "", {}, None, []])
def test_what_else_a_delta_has_is_never_left_out(nothing: object) -> None:
    words = ["a", "b", "c"]
    frames = [b"data: " + orjson.dumps({"choices": [{"delta": {"content": word, "x": nothing}}]}) for word in words]
    assert plain(read(Whole(), ChatStreamDecoder(), [b"\n\n".join(frames)])) == one_by_one(frames)


def by_provider(name: str) -> bytes:
    return b"data: " + orjson.dumps({"provider": name, "choices": [{"index": 0, "delta": {"content": "a"}}]})


def by_model(name: str) -> bytes:
    message = {"role": "assistant", "content": "a"}
    return orjson.dumps({"model": name, "created_at": "2026", "message": message, "done": False})


BETWEEN_OTHERS: dict[str, tuple[Callable[[], Decoder], list[bytes]]] = {
    "openai": (ChatStreamDecoder, [by_provider(name) for name in "AABAABAAAAA"]),
    "ollama": (OllamaChatDecoder, [by_model(name) for name in "AABAABAAAAA"]),
}


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize("family", BETWEEN_OTHERS)
def test_what_else_a_frame_says_is_news_again_behind_one_that_said_otherwise(family: str, size: int) -> None:
    made, frames = BETWEEN_OTHERS[family]
    parts = [b"\n\n".join(frames[at : at + size]) for at in range(0, len(frames), size)]
    pieces = read(Whole(), made(), parts)
    assert plain(pieces) == plain(made().decode(frames, None))
    assert TextRun in map(type, pieces)


@pytest.mark.parametrize("size", [1, 4, 100])
def test_a_text_of_a_block_that_has_ended_is_an_error(size: int) -> None:
    words = [event("text_delta", "text", word, 0) for word in WORDS]
    ends = b'data: {"type":"content_block_stop","index":0}'
    frames = [begins(0, type="text"), *words, ends, *words]
    with pytest.raises(WireError):
        read(Whole(), MessagesStreamDecoder(), [b"\n\n".join(frames[at : at + size]) for at in range(0, 62, size)])


def chunk(**delta: object) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return b"data: " + orjson.dumps(
        {"id": "c", "model": "m", "choices": [choice], "obfuscation": "x" * (len(str(delta)) % 7)}
    )


def going_on(arguments: str, index: int = 0) -> dict[str, object]:
    return {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}


def named(name: str, index: int = 0) -> dict[str, object]:
    return {
        "tool_calls": [{"index": index, "id": name, "type": "function", "function": {"name": name, "arguments": ""}}]
    }


def event(kind: str, key: str, text: str, index: int) -> bytes:
    delta = {"type": kind, key: text}
    return b"data: " + orjson.dumps({"type": "content_block_delta", "index": index, "delta": delta})


def begins(index: int, **block: object) -> bytes:
    return b"data: " + orjson.dumps({"type": "content_block_start", "index": index, "content_block": block})


WORDS = [f" word{number}" for number in range(30)]
KINDS: dict[str, tuple[Callable[[], Decoder], list[list[bytes]], int]] = {
    "openai": (
        ChatStreamDecoder,
        [
            [chunk(content=None, reasoning_content=word) for word in WORDS],
            [chunk(content=word) for word in WORDS],
            [chunk(**named("f")), *(chunk(**going_on(word)) for word in WORDS)],
            [chunk(**named("g", 1)), *(chunk(**going_on(word, 1)) for word in WORDS)],
        ],
        4,
    ),
    "anthropic": (
        MessagesStreamDecoder,
        [
            [begins(0, type="thinking"), *(event("thinking_delta", "thinking", word, 0) for word in WORDS)],
            [begins(1, type="text"), *(event("text_delta", "text", word, 1) for word in WORDS)],
            [
                begins(2, type="tool_use", id="t", name="f"),
                *(event("input_json_delta", "partial_json", word, 2) for word in WORDS),
            ],
        ],
        3,
    ),
    "ollama": (
        OllamaChatDecoder,
        [
            [TIMED.around(b"01:26:%d\x1d" % at).replace(b'""', b'"","thinking":"a%d"' % at) for at in range(30)],
            [TIMED.around(b"01:27:%d\x1dword" % at) for at in range(30)],
        ],
        2,
    ),
}
"""Answers of several kinds of text, and how many templates they come to."""


@pytest.mark.parametrize("size", [1, 7, 1_000])
@pytest.mark.parametrize("family", KINDS)
def test_each_kind_of_text_has_its_template(family: str, size: int) -> None:
    # given an answer that reasons, speaks and calls, read in batches of any size
    made, kinds, templates = KINDS[family]
    frames = [frame for kind in kinds for frame in kind]
    decoder, run, reader = made(), FrameRun(1), FrameReader()
    # when it is packed and decoded as it comes
    found: list[Piece] = []
    rows = []
    for at in range(0, len(frames), size):
        for batch, opens in batches(frames[at : at + size], decoder, run.template):
            new, parts = run.pack(batch, 0, opens)
            rows += [RecordedFrames(1, 1, 0, row.frame, row.count, 0, row.codec, row.bytes) for row in new]
            found += decoder.decode(parts, run.template)
    # then every kind is stored without what its frames share, and means what each frame means
    assert [row.codec in (TEMPLATE_ROW, PAIRED) for row in rows].count(True) == templates
    assert sum(len(row.bytes) for row in rows) < sum(map(len, frames)) / 3
    assert plain(found) == plain(made().decode(frames, None))
    # and comes back from the rows as it was, in its meaning and to the byte
    again, replaying, unpacking = list[Piece](), made(), FrameReader()
    for row in rows:
        parts = reader.parts(row)
        again += replaying.decode(parts, reader.template)
    assert plain(again) == plain(found)
    assert [frame for row in rows for frame in unpacking.unpack(row)] == frames


def test_an_answer_that_keeps_changing_its_shape_is_not_looked_at_for_ever() -> None:
    decoder, known, looks = ChatStreamDecoder(), None, 0
    for number in range(LOOKS + 10):
        opens = decoder.template([chunk(**{"content": "a", "role": "assistant"} | {"x" * number: None})], known)
        looks += opens is not None
        known = opens[1] if opens else known
    assert looks == LOOKS


@given(st.lists(ADVERSARIAL, min_size=1, max_size=8), st.booleans(), st.booleans())
def test_escaped_text_is_passed_on_as_the_text_it_is(texts: list[str], ascii_only: bool, usage: bool) -> None:
    frames = [frame(text, ascii_only) for text in ["first", *texts]]
    rendered = ChatStream("r", 0, "m", usage).pieces(read(Whole(), ChatStreamDecoder(), [b"\n\n".join(frames)]))
    chunks = [orjson.loads(part.removeprefix(b"data: ")) for part in rendered.split(b"\n\n") if part]
    said = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks]
    assert "".join(said) == "first" + "".join(texts)
    assert all(set(chunk) == set(chunks[0]) for chunk in chunks)


@given(st.lists(INSIDES, min_size=1, max_size=5))
def test_a_run_is_read_only_where_each_middle_is_a_string(insides: list[list[str]]) -> None:
    middles = ["".join(inside).replace("\x1e", "").encode() for inside in insides]
    run = read_run(Middles(SEP.join(middles)))
    if run is not None:
        assert run.text == "".join(orjson.loads(b'"' + middle + b'"') for middle in middles)


def read_run_without_care(middles: Middles) -> list[str]:
    """The bug: what parses as an array of as many strings is taken for them."""
    return list(orjson.loads(b'["' + middles.joined.replace(SEP, b'","') + b'"]'))


def test_the_care_is_needed() -> None:
    middles = [b"a\\", b',"x', b"c"]
    assert len(read_run_without_care(Middles(SEP.join(middles)))) == len(middles)
    assert read_run(Middles(SEP.join(middles))) is None


def test_a_template_is_found_only_where_the_place_is_certain() -> None:
    sure = b'{"content":"hi","a":1}'
    assert find_template(sure, "hi", b"content") == Template(b'{"content":"', b'","a":1}')
    assert find_template(b'{"content": "hi"}', "hi", b"content") == Template(b'{"content": "', b'"}')
    assert find_template(b'{"content":"hi","x":{"content":"hi"}}', "hi", b"content") is None
    assert find_template(b'{"content":"h\\u0069"}', "hi", b"content") is None


def test_so_with_what_differs_beside_the_text() -> None:
    found = Template(b'{"at":"1","content":"', b'","pad":"x"}')
    assert differs_before(found, b"at", "1") == Template(b'{"at":"', b'","pad":"x"}', b'","content":"')
    assert differs_behind(found, b"pad", "x") == Template(b'{"at":"1","content":"', b'"}', b'","pad":"')
    assert differs_behind(found, b"at", "1") is None  # it is before the text
    assert differs_before(found, b"at", "2") is None
    assert differs_behind(Template(b"{", b'","pad":"x","b":{"pad":"x"}}'), b"pad", "x") is None
    assert differs_behind(Template(b"{", b'","pad":"\\u0078"}'), b"pad", "x") is None


def test_frames_that_hold_the_separator_still_mean_what_they_mean() -> None:
    odd = TEMPLATE.prefix + b"a\x1e\x1fb" + TEMPLATE.suffix
    run = FrameRun(1)
    rows, parts = run.pack([frame("x"), odd], 0)
    assert (len(rows), parts) == (2, [frame("x"), odd])


@pytest.mark.parametrize(
    ("data", "value"),
    [(b'{"a":1}', {"a": 1}), (b'"\xff"', "\ufffd"), (b'"\\ud800"', "\ufffd"), (b'{"\\ud83c\\udf89":[1]}', {"🎉": [1]})],
)
def test_small_sins_are_forgiven(data: bytes, value: object) -> None:
    assert loads_lenient(data) == value


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 100_000])
def test_what_is_no_json_is_an_error(data: bytes) -> None:
    with pytest.raises(WireError):
        loads_lenient(data)
