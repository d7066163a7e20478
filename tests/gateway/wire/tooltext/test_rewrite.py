"""Standard tool calls as tagged text: in streams as in bodies, whatever the batches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore.frames import SEP
from gateway.errors import InvalidRequest
from gateway.wire.openai_chat_answer import ChatBody, ChatStream
from gateway.wire.tooltext.formats import FORMATS
from gateway.wire.tooltext.parser import TextParser
from gateway.wire.tooltext.rewrite import TAGS, TaggedRenderer, tags_of
from gateway.wire.values import Delta, Meta, Piece, TextRun, ToolCallDelta
from tests.gateway.wire.reading import fold
from tests.gateway.wire.tooltext.texts import calls_of, parse

XML = TAGS["xml"]


def run(*texts: str) -> TextRun:
    return TextRun(SEP.join(json.dumps(text)[1:-1].encode() for text in texts), "".join(texts))


def calls(*deltas: ToolCallDelta) -> Delta:
    return Delta(tool_calls=deltas)


TWO: list[Piece] = [
    run("Let me ", "see."),
    calls(ToolCallDelta(0, "a", "f")),
    calls(ToolCallDelta(0, arguments='{"x"')),
    calls(ToolCallDelta(0, arguments=": 1}")),
    calls(ToolCallDelta(1, "b", "g", "{}")),
    Delta(finish_reason="tool_calls"),
    Meta(ended=True),
]
WRITTEN = (
    'Let me see.\n<tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>'
    '\n<tool_call>{"name": "g", "arguments": {}}</tool_call>'
)


def streamed(batches: Sequence[Sequence[Piece]], tags: tuple[str, str] = XML) -> bytes:
    renderer = TaggedRenderer(ChatStream("r", 1, "m", usage_chunk=False), tags)
    out = b"".join(renderer.pieces(batch) for batch in batches)
    return out + renderer.completed(fold([piece for batch in batches for piece in batch]))


def chunks(stream: bytes) -> list[dict[str, Any]]:
    return [json.loads(line[6:])["choices"][0] for line in stream.split(b"\n\n") if line.startswith(b"data: {")]


def content(stream: bytes) -> str:
    return "".join(chunk["delta"].get("content") or "" for chunk in chunks(stream))


def body(pieces: list[Piece], tags: tuple[str, str] = XML) -> dict[str, Any]:
    renderer = TaggedRenderer(ChatBody("r", 1, "m"), tags)
    assert renderer.pieces(pieces) == b""
    return json.loads(renderer.completed(fold(pieces)))["choices"][0]


def test_calls_are_text_in_a_stream() -> None:
    stream = streamed([TWO])
    assert content(stream) == WRITTEN
    assert b"tool_calls" not in stream
    assert chunks(stream)[-1]["finish_reason"] == "stop"


def test_calls_are_text_in_a_body() -> None:
    choice = body(TWO)
    assert choice["message"]["content"] == WRITTEN
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "stop"


def test_arguments_come_as_they_are_said() -> None:
    renderer = TaggedRenderer(ChatStream("r", 1, "m", usage_chunk=False), XML)
    renderer.pieces(TWO[:2])
    assert content(renderer.pieces(TWO[2:3])) == '{"x"'


@pytest.mark.parametrize("name", TAGS)
def test_what_is_written_can_be_read(name: str) -> None:
    text = body(TWO, TAGS[name])["message"]["content"]
    assert calls_of(parse(TextParser(FORMATS[name]), [text])) == [("f", {"x": 1}), ("g", {})]


def test_calls_that_interleave_are_written_one_after_the_other() -> None:
    pieces: list[Piece] = [
        calls(ToolCallDelta(0, "a", "f"), ToolCallDelta(1, "b", "g")),
        calls(ToolCallDelta(1, arguments='{"y":')),
        calls(ToolCallDelta(0, arguments='{"x":1}')),
        calls(ToolCallDelta(1, arguments="2}")),
    ]
    text = content(streamed([pieces]))
    assert calls_of(parse(TextParser(FORMATS["xml"]), [text])) == [("f", {"x": 1}), ("g", {"y": 2})]


def test_a_call_without_arguments_and_one_with_text() -> None:
    custom = ToolCallDelta(1, "b", "g", 'say "hi"\n', "custom")
    text = body([calls(ToolCallDelta(0, "a", "f")), calls(custom)])["message"]["content"]
    assert text.endswith('<tool_call>{"name": "g", "arguments": "say \\"hi\\"\\n"}</tool_call>')
    assert text.startswith('<tool_call>{"name": "f", "arguments": {}}</tool_call>')


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_batches_make_no_difference(data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(TWO)))))
    batches = [TWO[a:b] for a, b in zip([0, *cuts], [*cuts, len(TWO)], strict=True)]
    assert streamed(batches) == streamed([TWO])


def test_text_alone_passes_byte_for_byte() -> None:
    plain: list[Piece] = [run("a", "b"), Delta(text="c", finish_reason="stop")]
    bare = ChatStream("r", 1, "m", usage_chunk=False)
    assert streamed([plain]) == bare.pieces(plain) + bare.completed(fold(plain))


@pytest.mark.parametrize("said", [None, "auto", "openai", "codex", "passthrough"])
def test_standard_calls_where_nothing_else_is_asked(said: Any) -> None:
    assert tags_of(said) is None


def test_tags_of_ones_own() -> None:
    assert tags_of("[CALL], [/CALL]") == ("[CALL]", "[/CALL]")
    assert tags_of("llama3") == ("<function_call>", "</function_call>")


@pytest.mark.parametrize("said", ["qwen9", "", ",", "a,", ["xml"], 3, "x" * 65 + ",y"])
def test_anything_else_is_refused(said: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        tags_of(said)
    assert refused.value.param == "agent_format"
