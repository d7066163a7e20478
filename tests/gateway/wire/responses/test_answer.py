"""Responses, written: the bytes do not hang on batches, every event is of its type, numbers and items are whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from eventstore.catalogue.values import Usage
from gateway.wire.dialect import Form
from gateway.wire.responses.answer import ResponsesBody, ResponsesStream
from gateway.wire.values import Delta, Fold, Meta, Piece, ToolCallDelta
from tests.gateway.wire.messages.test_answer import PIECES, TEXTS, apart

EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
OPTIONS = st.sampled_from([{}, {"reasoning": {"summary": "auto"}}, {"custom": ["f"]}, {"namespaces": {"f": "mcp"}}])
MORE = st.lists(st.one_of(PIECES, st.builds(lambda text: [Delta(refusal=text)], TEXTS)), max_size=3)


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
    fold = Fold()
    pieces = [piece for some in lists for piece in some]
    fold.add(pieces)
    body = json.loads(ResponsesBody(form(options)).completed(fold))
    Response.model_validate(body)
    streamed = events(rendered([pieces], options))[-1]["response"]
    assert texts(body) == texts(streamed)
    assert calls(body) == calls(streamed)
    assert (body["usage"], body["status"]) == (streamed["usage"], streamed["status"])


def texts(response: dict[str, Any]) -> dict[str, str]:
    """All text of a kind, in its order: a stream has an item for each turn between kinds, a body one."""
    found: dict[str, str] = {}
    for item in response["output"]:
        for part in [*item.get("content", ()), *item.get("summary", ())]:
            found[part["type"]] = found.get(part["type"], "") + part.get("text", part.get("refusal", ""))
    return found


def calls(response: dict[str, Any]) -> list[Any]:
    items = [item for item in response["output"] if item["type"].endswith("_call")]
    return sorted((item["call_id"], item.get("arguments", item.get("input"))) for item in items)


def test_counts_and_ends_are_said_in_their_words() -> None:
    fold = Fold()
    usage = Usage(input_tokens=9, cache_read_tokens=4, output_tokens=5, reasoning_tokens=2)
    fold.add([Delta(text="x", finish_reason="content_filter"), Meta(usage=usage)])
    body = json.loads(ResponsesBody(form({})).completed(fold))
    assert (body["status"], body["incomplete_details"]) == ("incomplete", {"reason": "content_filter"})
    assert body["usage"]["input_tokens_details"] == {"cached_tokens": 4, "cache_write_tokens": 0}
    assert body["usage"]["output_tokens_details"] == {"reasoning_tokens": 2}


def test_a_custom_tool_gets_its_text() -> None:
    fold = Fold()
    fold.add([Delta(tool_calls=[ToolCallDelta(0, "c", "f", '{"input":"a\\nb"}')])])
    [item] = json.loads(ResponsesBody(form({"custom": ["f"]})).completed(fold))["output"]
    assert (item["type"], item["input"]) == ("custom_tool_call", "a\nb")
