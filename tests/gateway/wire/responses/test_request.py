"""A Responses request as chat: nothing that was said gets lost, and what is no request is refused, never a failure."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import InvalidRequest
from gateway.wire.responses import request

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
