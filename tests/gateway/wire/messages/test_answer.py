"""Messages, written: the bytes do not hang on batches, and blocks open and close in order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.catalogue.values import Usage
from eventstore.frames import SEP
from gateway.wire.dialect import Form
from gateway.wire.messages.answer import MessagesBody, MessagesStream
from gateway.wire.values import Delta, Fold, Meta, Piece, TextRun, ToolCallDelta

STREAMED = Form(request_id="01M7XXBW4QVD9HCQGVX09HHCXC", created=1, model="m", streamed=True)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)
PIECES = st.lists(
    st.one_of(
        st.builds(Delta, text=TEXTS),
        st.builds(Delta, reasoning=TEXTS),
        st.lists(TEXTS, min_size=1, max_size=4).map(lambda texts: run(texts)),
        st.builds(
            lambda index, text: Delta(tool_calls=[ToolCallDelta(index, f"call_{index}", "f", text)]),
            st.integers(0, 2),
            TEXTS,
        ),
        st.just(Meta(usage=Usage(input_tokens=3))),
    ),
    max_size=12,
)


def run(texts: Sequence[str]) -> TextRun:
    return TextRun(SEP.join(json.dumps(text)[1:-1].encode() for text in texts), "".join(texts))


def apart(piece: Piece) -> list[Piece]:
    """A run in runs of one frame each."""
    if not isinstance(piece, TextRun):
        return [piece]
    return [run([json.loads(b'"' + one + b'"')]) for one in piece.escaped.split(SEP)]


def rendered(batches: Sequence[Sequence[Piece]]) -> bytes:
    renderer, fold = MessagesStream(STREAMED), Fold()
    out = b""
    for batch in batches:
        fold.add(batch)
        out += renderer.pieces(batch)
    return out + renderer.completed(fold)


def events(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(frame.split(b"\ndata: ", 1)[1]) for frame in data.split(b"\n\n") if frame]


@given(PIECES)
def test_the_bytes_do_not_hang_on_batches(pieces: list[Piece]) -> None:
    assert rendered([pieces]) == rendered([[part] for piece in pieces for part in apart(piece)])


@given(PIECES)
def test_blocks_are_numbered_opened_filled_and_closed(pieces: list[Piece]) -> None:
    told = events(rendered([pieces]))
    open_blocks: set[int] = set()
    count = 0
    for event in told[1:-2]:
        match event["type"]:
            case "content_block_start":
                assert event["index"] == count
                open_blocks.add(count)
                count += 1
            case "content_block_delta":
                assert event["index"] in open_blocks
            case "content_block_stop":
                open_blocks.remove(event["index"])
    assert not open_blocks
    assert [told[0]["type"], *(event["type"] for event in told[-2:])] == [
        "message_start", "message_delta", "message_stop"
    ]  # fmt: skip


@given(PIECES)
def test_stream_and_body_say_the_same(pieces: list[Piece]) -> None:
    fold = Fold()
    fold.add(pieces)
    body = json.loads(MessagesBody(STREAMED).completed(fold))
    told = events(rendered([pieces]))
    for kind in ("text", "thinking"):
        deltas = "".join(e["delta"].get(kind, "") for e in told if e["type"] == "content_block_delta")
        assert deltas == "".join(block.get(kind, "") for block in body["content"])
    calls = [
        e["content_block"]["id"] for e in told if e["type"] == "content_block_start" and e["content_block"].get("id")
    ]
    assert sorted(calls) == sorted(block["id"] for block in body["content"] if block["type"] == "tool_use")
    assert told[-2]["usage"] == body["usage"]
    assert told[-2]["delta"]["stop_reason"] == body["stop_reason"]


def test_counts_are_without_the_cache() -> None:
    fold = Fold()
    fold.add([Meta(usage=Usage(input_tokens=100, cache_read_tokens=60, cache_write_5m_tokens=10, output_tokens=7))])
    usage = json.loads(MessagesBody(STREAMED).completed(fold))["usage"]
    assert usage == {
        "input_tokens": 30, "cache_read_input_tokens": 60, "cache_creation_input_tokens": 10, "output_tokens": 7
    }  # fmt: skip


@pytest.mark.parametrize("arguments", ['{"a": ', ""])
def test_a_call_that_the_limit_cut_off_is_not_to_be_run(arguments: str) -> None:
    pieces: list[Piece] = [
        Delta(tool_calls=[ToolCallDelta(0, "c1", "f", '{"x":1}'), ToolCallDelta(1, "c2", "g", arguments)]),
        Delta(finish_reason="length"),
    ]
    fold = Fold()
    fold.add(pieces)
    body = json.loads(MessagesBody(STREAMED).completed(fold))
    assert [block["input"] for block in body["content"]] == [{"x": 1}, {}]
    assert body["stop_reason"] == events(rendered([pieces]))[-2]["delta"]["stop_reason"] == "max_tokens"
