"""A Responses request as chat: nothing that was said gets lost, and what is no request is refused, never a failure."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import InvalidRequest
from gateway.wire.responses import request
from gateway.wire.responses.sealed import seal, unsigned

CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}


def said(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


@pytest.mark.parametrize(
    "items",
    [
        [said("first"), said("second")],
        [said("first"), {"type": "reasoning", "id": "rs_1", "summary": []}, said("second")],
        [said("first"), CALL, said("second")],
        [{"role": "assistant", "content": "first"}, {"role": "assistant", "content": "second"}],
    ],
)
def test_every_message_of_a_turn_is_kept(items: list[dict[str, Any]]) -> None:
    body = {"model": "m", "input": [{"role": "user", "content": "q"}, *items, {"role": "user", "content": "more"}]}
    request.check(body)
    _, turn, _ = request.chat(body)["messages"]
    assert turn["content"] == "first\nsecond"
    assert len(turn.get("tool_calls", ())) == items.count(CALL)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("include", 5),
        ("presence_penalty", "high"),
        ("top_logprobs", 0.5),
        ("text", {"format": "json"}),
        ("input", [{"type": ["message"]}]),
        ("tool_choice", {"type": "allowed_tools", "tools": ["x"]}),
        ("tool_choice", {"type": "allowed_tools", "tools": 5}),
    ],
)
def test_values_of_the_wrong_kind_are_refused(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequest):
        request.check({"model": "m", "input": "x", field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input", [{"role": "user", "content": "x"}, {"type": "of_next_year", "any": [1]}]),
        ("text", {"format": None, "verbosity": "low", "more": 1}),
        ("tool_choice", {"type": "of_next_year"}),
        ("include", ["of_next_year"]),
        ("of_next_year", {"a": 1}),
    ],
)
def test_what_is_not_known_is_not_refused(field: str, value: Any) -> None:
    body = {"model": "m", "input": "x", "tools": [{"type": "function", "name": "f"}], field: value}
    request.check(body)
    assert request.chat(body)["messages"]


@pytest.mark.parametrize("field", ["input", "messages"])
def test_an_empty_input_is_refused_unless_a_conversation_goes_on(field: str) -> None:
    with pytest.raises(InvalidRequest, match="no items"):
        request.check({"model": "m", field: []})
    request.check({"model": "m", field: [], "previous_response_id": "resp_1"})


SIGNED = [{"type": "thinking", "thinking": "r", "signature": "c2ln"}]
SEALED = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": seal(SIGNED)}
USER = {"role": "user", "content": "q"}


@pytest.mark.parametrize(
    ("items", "signed"),
    [
        ([USER, SEALED, said("a"), CALL], SIGNED),
        ([USER, SEALED, CALL], SIGNED),
        ([USER, SEALED, {"type": "web_search_call"}, said("a")], SIGNED),
        ([USER, said("a"), SEALED, CALL, SEALED, CALL], SIGNED * 2),
        ([USER, {**SEALED, "encrypted_content": "somebody else's"}, said("a")], None),
        ([USER, {**SEALED, "encrypted_content": SEALED["encrypted_content"][:-3]}, said("a")], None),
        ([USER, {**SEALED, "encrypted_content": seal([{"type": "text"}])}, said("a")], None),
    ],
)
def test_signed_thinking_goes_back_with_its_turn(items: list[dict[str, Any]], signed: Any) -> None:
    chat = request.chat({"model": "m", "input": items})
    assert chat["messages"][1].get("thinking_blocks") == signed
    assert "thinking_blocks" not in unsigned(chat)["messages"][1]


def test_signed_thinking_of_a_turn_that_never_came_is_dropped() -> None:
    chat = request.chat({"model": "m", "input": [USER, SEALED, USER, said("a")]})
    assert not any("thinking_blocks" in message for message in chat["messages"])


def test_content_parts_that_are_left_out_are_named() -> None:
    parts = [{"type": "input_text", "text": "hey"}, {"type": "input_video", "url": "u"}, {"type": "input_video"}]
    body = {"model": "m", "input": [{"role": "user", "content": parts}]}
    assert request.ignored(body) == ("input[].content[].input_video",)
    parts[1:] = [{"type": ["input_video"]}]
    assert request.ignored(body) == ("input[].content[].['input_video']",)
    assert request.chat(body)["messages"] == [{"role": "user", "content": "hey"}]


def test_reasoning_that_was_signed_is_carried_with_its_text() -> None:
    shown = {**SEALED, "content": [{"type": "reasoning_text", "text": "r"}]}
    assert request.ignored({"model": "m", "input": [USER, shown, said("a")]}) == ()


def test_what_is_left_out_is_named() -> None:
    body = {
        "model": "m", "input": [USER, {"type": "computer_call"}, {"type": "reasoning", "id": "r"}, SEALED, said("a")],
        "tools": [{"type": "web_search"}, {"type": "function", "name": "f"}, {"type": "namespace", "name": "n"}],
        "include": ["file_search_call.results", "reasoning.encrypted_content"], "truncation": "auto",
        "max_tool_calls": 3, "store": False, "client_metadata": None, "top_logprobs": 2,
    }  # fmt: skip
    assert request.ignored(body) == (
        "include.file_search_call.results", "input[].computer_call", "input[].reasoning", "max_tool_calls",
        "tools[].web_search", "top_logprobs", "truncation",
    )  # fmt: skip


LOGPROBS = {"include": ["message.output_text.logprobs"]}


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({"presence_penalty": 0.5, "frequency_penalty": -1}, {"presence_penalty": 0.5, "frequency_penalty": -1}),
        ({"presence_penalty": None}, {}),
        ({**LOGPROBS, "top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2}),
        (LOGPROBS, {"logprobs": True, "top_logprobs": 0}),
        ({"top_logprobs": 0}, {}),
    ],
)
def test_what_chat_has_too_is_carried(said: dict[str, Any], meant: dict[str, Any]) -> None:
    body = {"model": "m", "input": "x", **said}
    request.check(body)
    chat = request.chat(body)
    del chat["messages"], chat["model"]
    assert (chat, request.ignored(body)) == (meant, ())
