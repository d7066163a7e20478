"""Responses, written: the bytes do not hang on batches, every event is of its type, numbers and items are whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from eventstore.catalogue.values import Usage
from gateway.wire.dialect import Form
from gateway.wire.responses.answer import ResponsesBody, ResponsesStream
from gateway.wire.responses.sealed import unseal
from gateway.wire.values import Delta, Fold, Meta, Piece, ToolCallDelta
from tests.gateway.wire.messages.test_answer import PIECES, TEXTS, apart

EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
OPTIONS = st.sampled_from([{}, {"reasoning": {"summary": "auto"}}, {"custom": ["f"]}, {"namespaces": {"f": "mcp"}}])
CITED = {"start_index": 0, "end_index": 3, "url": "https://oslo.example", "title": "Oslo"}
CITATION = Delta(extra={"annotations": [{"type": "url_citation", "url_citation": CITED}]})
MORE = st.lists(
    st.one_of(PIECES, st.builds(lambda text: [Delta(refusal=text)], TEXTS), st.just([CITATION])), max_size=3
)


def form(options: dict[str, Any]) -> Form:
    request = "01M7XXBW4QVD9HCQGVX09HHCXC"
    return Form(request_id=request, created=1, model="m", streamed=True, options=options)


def rendered(batches: Sequence[Sequence[Piece]], options: dict[str, Any]) -> bytes:
    renderer, fold = ResponsesStream(form(options)), Fold()
    out = b""
    for batch in batches:
        fold.add(batch)
        out += renderer.pieces(batch)
    return out + renderer.completed(fold)


def events(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(frame.split(b"\ndata: ", 1)[1]) for frame in data.split(b"\n\n") if frame]


@given(MORE, OPTIONS)
def test_the_bytes_do_not_hang_on_batches(lists: list[list[Piece]], options: dict[str, Any]) -> None:
    pieces = [piece for some in lists for piece in some]
    assert rendered([pieces], options) == rendered([[part] for piece in pieces for part in apart(piece)], options)


@given(MORE, OPTIONS)
def test_events_are_typed_numbered_and_whole(lists: list[list[Piece]], options: dict[str, Any]) -> None:
    told = events(rendered([[piece for some in lists for piece in some]], options))
    for event in told:
        EVENT.validate_python(event)
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    added = [event["output_index"] for event in told if event["type"] == "response.output_item.added"]
    assert added == list(range(len(added)))
    done = {event["output_index"]: event["item"] for event in told if event["type"] == "response.output_item.done"}
    assert [done[index] for index in added] == told[-1]["response"]["output"]
    for event in told:
        if event["type"] == "response.content_part.added" and event["part"]["type"] != "reasoning_text":
            assert event["content_index"] < len(done[event["output_index"]]["content"])


@given(MORE, OPTIONS)
def test_stream_and_body_say_the_same(lists: list[list[Piece]], options: dict[str, Any]) -> None:
    pieces = [piece for some in lists for piece in some]
    body = whole(pieces, options)
    Response.model_validate(body)
    assert body == events(rendered([pieces], options))[-1]["response"]


def whole(pieces: Sequence[Piece], options: dict[str, Any]) -> dict[str, Any]:
    renderer, fold = ResponsesBody(form(options)), Fold()
    fold.add(pieces)
    assert renderer.pieces(pieces) == b""
    body: dict[str, Any] = json.loads(renderer.completed(fold))
    return body


def test_counts_and_ends_are_said_in_their_words() -> None:
    usage = Usage(input_tokens=9, cache_read_tokens=4, output_tokens=5, reasoning_tokens=2)
    body = whole([Delta(text="x", finish_reason="content_filter"), Meta(usage=usage)], {})
    assert (body["status"], body["incomplete_details"]) == ("incomplete", {"reason": "content_filter"})
    assert body["usage"]["input_tokens_details"] == {"cached_tokens": 4, "cache_write_tokens": 0}
    assert body["usage"]["output_tokens_details"] == {"reasoning_tokens": 2}


@pytest.mark.parametrize(
    ("options", "told", "shown"),
    [({}, None, "default"), ({"service_tier": "auto"}, "flex", "flex"), ({"service_tier": "flex"}, 7, "flex")],
)
def test_the_service_tier_is_the_one_that_served(options: dict[str, Any], told: Any, shown: str) -> None:
    assert whole([Delta(text="x"), Meta(top={"service_tier": told})], options)["service_tier"] == shown


def test_citations_stand_with_their_text() -> None:
    told = events(rendered([[Delta(text="It is 22 °C."), CITATION], [CITATION]], {}))
    added = [event for event in told if event["type"] == "response.output_text.annotation.added"]
    assert [event["annotation_index"] for event in added] == [0, 1]
    assert [event["annotation"] for event in added] == [{"type": "url_citation", **CITED}] * 2
    [message] = told[-1]["response"]["output"]
    assert [part["annotations"] for part in message["content"]] == [[event["annotation"] for event in added]]


@pytest.mark.parametrize("given", [None, "x", {}, [None, 7, {}, {"type": 1}]])
def test_annotations_that_are_none_are_passed_over(given: Any) -> None:
    [message] = whole([Delta(text="x", extra={"annotations": given})], {})["output"]
    assert message["content"][0]["annotations"] == []


def test_annotations_of_other_shapes_are_kept() -> None:
    flat = {"type": "url_citation", **CITED}
    [message] = whole([Delta(text="x", extra={"annotations": [flat]})], {})["output"]
    assert message["content"][0]["annotations"] == [flat]


def test_a_custom_tool_gets_its_text() -> None:
    [item] = whole([Delta(tool_calls=[ToolCallDelta(0, "c", "f", '{"input":"a\\nb"}')])], {"custom": ["f"]})["output"]
    assert (item["type"], item["input"]) == ("custom_tool_call", "a\nb")


def test_a_custom_tool_of_chats_own_gets_its_text_as_it_comes() -> None:
    pieces: list[Piece] = [
        Delta(tool_calls=[ToolCallDelta(0, "c", "f", '{"input":', type="custom")]),
        Delta(tool_calls=[ToolCallDelta(0, arguments='"a"}', type="custom")]),
    ]
    told = events(rendered([pieces], {"custom": ["f"]}))
    assert [event["delta"] for event in told if event["type"].endswith("input.delta")] == ['{"input":', '"a"}']
    [item] = told[-1]["response"]["output"]
    assert (item["type"], item["id"][:4], item["input"]) == ("custom_tool_call", "ctc_", '{"input":"a"}')
    cut = events(rendered([[*pieces[:1], SHORT]], {"custom": ["f"]}))
    assert "response.custom_tool_call_input.done" not in [event["type"] for event in cut]


def call(index: int, arguments: str) -> Delta:
    return Delta(tool_calls=[ToolCallDelta(index, f"c{index}", "f", arguments)])


SHORT = Delta(finish_reason="length")


@pytest.mark.parametrize(
    ("pieces", "statuses"),
    [
        ([Delta(reasoning="r"), Delta(text="t"), SHORT], ["completed", "incomplete"]),
        ([Delta(reasoning="r"), SHORT], ["incomplete"]),
        ([Delta(text="t"), call(0, "{}"), call(1, '{"a'), SHORT], ["completed", "completed", "incomplete"]),
        ([call(0, "{}"), Delta(text="t"), SHORT], ["completed", "incomplete"]),
        ([call(0, "{}"), Delta(text="t")], ["completed", "completed"]),
    ],
)
def test_only_the_last_item_of_an_incomplete_response_is_incomplete(pieces: list[Piece], statuses: list[str]) -> None:
    body = whole(pieces, {})
    assert [item["status"] for item in body["output"]] == statuses
    assert body["status"] == statuses[-1]


def test_arguments_that_were_cut_off_are_not_said_to_be_done() -> None:
    told = events(rendered([[call(0, '{"a'), SHORT]], {}))
    assert "response.function_call_arguments.done" not in [event["type"] for event in told]


def test_what_failed_ends_its_items_and_keeps_them() -> None:
    renderer = ResponsesStream(form({}))
    told = events(renderer.pieces([Delta(text="half")]) + renderer.failed({"message": "no", "type": "server_error"}))
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    done, failed = told[-2], told[-1]
    assert (done["type"], failed["type"]) == ("response.output_item.done", "response.failed")
    assert failed["response"]["output"] == [done["item"]]
    assert (done["item"]["status"], done["item"]["content"][0]["text"]) == ("incomplete", "half")


SIGNED = [{"type": "thinking", "thinking": "r", "signature": "c2ln"}, {"type": "redacted_thinking", "data": "eA=="}]
THOUGHT: list[Piece] = [Delta(reasoning="r"), Delta(extra={"thinking_blocks": SIGNED}), Delta(text="t")]


def test_signed_thinking_is_sealed_where_it_was_asked_for() -> None:
    thought, said = whole(THOUGHT, {"sealed": True})["output"]
    assert (thought["content"][0]["text"], unseal(thought["encrypted_content"])) == ("r", SIGNED)
    assert said["content"][0]["text"] == "t"
    assert "encrypted_content" not in whole(THOUGHT, {})["output"][0]


def test_thinking_that_nobody_may_read_is_an_item_too() -> None:
    thought, _ = whole([Delta(extra={"thinking_blocks": SIGNED[1:]}), Delta(text="t")], {"sealed": True})["output"]
    assert (thought["type"], unseal(thought["encrypted_content"])) == ("reasoning", SIGNED[1:])


@pytest.mark.parametrize("given", [7, "x", {"token": "x"}, True])
def test_what_is_no_list_is_left_out(given: Any) -> None:
    """Log probabilities and signed thinking, as no API has them."""
    piece = Delta(text="Oslo", logprobs={"content": given}, extra={"thinking_blocks": given})
    told = events(rendered([[piece]], {"sealed": True}))
    (part,) = told[-1]["response"]["output"][-1]["content"]
    assert (part["text"], part["logprobs"]) == ("Oslo", [])
