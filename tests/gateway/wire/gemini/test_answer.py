"""Answers in Google's words: the same bytes however the pieces are batched, and the same answer in both forms."""

from __future__ import annotations

import json
from typing import Any

import pytest

from eventstore.catalogue.values import Usage
from eventstore.frames import SEP
from gateway.wire.dialect import Form
from gateway.wire.gemini.answer import GenerateBody, GenerateStream
from gateway.wire.gemini.errors import error_body
from gateway.wire.values import Delta, Fold, Meta, Piece, TextRun, ToolCallDelta

PIECES: list[Piece] = [
    Delta(reasoning="hm "),
    Delta(reasoning="yes"),
    TextRun(SEP.join([b"a\\n", "\u00e4".encode()]), "a\n\u00e4"),
    Delta(text="b"),
    Delta(tool_calls=[ToolCallDelta(0, "c1", "f", '{"x"'), ToolCallDelta(1, "c2", "g", "")]),
    Delta(tool_calls=[ToolCallDelta(0, arguments=":1}")]),
    Delta(finish_reason="tool_calls"),
    Meta(usage=Usage(input_tokens=10, cache_read_tokens=4, output_tokens=7, reasoning_tokens=3)),
]
USAGE = {
    "promptTokenCount": 10, "candidatesTokenCount": 4, "totalTokenCount": 17, "thoughtsTokenCount": 3,
    "cachedContentTokenCount": 4,
}  # fmt: skip
CALLS = [
    {"functionCall": {"id": "c1", "name": "f", "args": {"x": 1}}},
    {"functionCall": {"id": "c2", "name": "g", "args": {}}},
]


def form(**options: bool) -> Form:
    return Form(request_id="r", created=1, model="p/m", streamed=True, options=options)


def folded(pieces: list[Piece]) -> Fold:
    fold = Fold()
    fold.add(pieces)
    return fold


def rendered(batch: int, **options: bool) -> bytes:
    renderer = GenerateStream(form(**options))
    batches = [PIECES[at : at + batch] for at in range(0, len(PIECES), batch)]
    return b"".join(map(renderer.pieces, batches)) + renderer.completed(folded(PIECES))


def parts(candidate: Any) -> Any:
    return candidate["content"]["parts"]


def test_the_bytes_do_not_hang_on_the_batches() -> None:
    assert len({rendered(batch, thoughts=True) for batch in (1, 2, 3, len(PIECES))}) == 1


@pytest.mark.parametrize("thoughts", [True, False])
def test_a_stream_and_a_whole_answer_say_the_same(thoughts: bool) -> None:
    events = [json.loads(frame[6:]) for frame in rendered(2, thoughts=thoughts).split(b"\n\n") if frame]
    whole = json.loads(GenerateBody(form(thoughts=thoughts)).completed(folded(PIECES)))
    [candidate] = whole["candidates"]
    thought = [{"text": "hm yes", "thought": True}] if thoughts else []
    assert parts(candidate) == [*thought, {"text": "a\n\u00e4b"}, *CALLS]
    said = [part for event in events for part in parts(event["candidates"][0])]
    assert "".join(part["text"] for part in said if "text" in part and "thought" not in part) == "a\n\u00e4b"
    assert said[-2:] == CALLS
    assert events[-1]["usageMetadata"] == whole["usageMetadata"] == USAGE
    assert events[-1]["candidates"][0]["finishReason"] == candidate["finishReason"] == "STOP"
    assert {(event["modelVersion"], event["responseId"]) for event in [*events, whole]} == {("p/m", "r")}


@pytest.mark.parametrize(("reason", "told"), [("stop", "STOP"), ("length", "MAX_TOKENS"), ("content_filter", "SAFETY")])
def test_why_it_ended(reason: str, told: str) -> None:
    fold = folded([Delta(finish_reason=reason)])
    [whole] = json.loads(GenerateBody(form(array=True)).completed(fold))
    assert whole["candidates"][0]["finishReason"] == told
    assert parts(whole["candidates"][0]) == [{"text": ""}]


def test_arguments_that_are_no_object_are_kept_as_text() -> None:
    fold = folded([Delta(tool_calls=[ToolCallDelta(0, "c", "f", "[1")], finish_reason="tool_calls")])
    [candidate] = json.loads(GenerateBody(form()).completed(fold))["candidates"]
    assert parts(candidate) == [{"functionCall": {"id": "c", "name": "f", "args": {"input": "[1"}}}]


@pytest.mark.parametrize(
    ("status", "error", "told"),
    [
        (400, {}, (400, "INVALID_ARGUMENT")),
        (402, {}, (402, "INVALID_ARGUMENT")),
        (429, {}, (429, "RESOURCE_EXHAUSTED")),
        (502, {}, (502, "UNAVAILABLE")),
        (None, {"type": "rate_limit_error"}, (429, "RESOURCE_EXHAUSTED")),
        (None, {"code": "overloaded"}, (503, "UNAVAILABLE")),
        (None, {"type": "server_error"}, (500, "INTERNAL")),
    ],
)
def test_errors_have_googles_names(status: int | None, error: dict[str, Any], told: tuple[int, str]) -> None:
    shown = json.loads(error_body(status, {"message": "why", **error}))["error"]
    assert (shown["code"], shown["status"], shown["message"]) == (*told, "why")


@pytest.mark.parametrize("arguments", ['{"a": ', ""])
def test_a_call_that_the_limit_cut_off_is_none(arguments: str) -> None:
    fold = folded([
        Delta(tool_calls=[ToolCallDelta(0, "c1", "f", '{"x":1}'), ToolCallDelta(1, "c2", "g", arguments)]),
        Delta(finish_reason="length"),
    ])  # fmt: skip
    whole = json.loads(GenerateBody(form()).completed(fold))
    streamed = json.loads(GenerateStream(form()).completed(fold)[6:])
    for answer in (whole, streamed):
        [candidate] = answer["candidates"]
        assert (parts(candidate), candidate["finishReason"]) == (CALLS[:1], "MAX_TOKENS")
