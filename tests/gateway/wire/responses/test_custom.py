"""Custom tools as chat has them: with a grammar its own kind, else functions with one text."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.wire.responses import request
from gateway.wire.responses.custom import as_functions

GRAMMAR = {"type": "grammar", "syntax": "regex", "definition": "a+"}
BOUND = {"type": "custom", "name": "p", "format": GRAMMAR}
FREE = {"type": "custom", "name": "q", "format": {"type": "text"}}
CALLED = [{"type": "custom_tool_call", "call_id": f"c{name}", "name": name, "input": "a"} for name in "pq"]


def chat(**more: Any) -> dict[str, Any]:
    body = {"model": "m", "input": [{"role": "user", "content": "x"}, *CALLED], "tools": [BOUND, FREE], **more}
    request.check(body)
    return request.chat(body)


def kinds(values: list[dict[str, Any]]) -> list[str]:
    return [value["type"] for value in values]


def test_a_grammar_makes_it_one_of_chats_own() -> None:
    said = chat()
    assert kinds(said["tools"]) == kinds(said["messages"][1]["tool_calls"]) == ["custom", "function"]


@pytest.mark.parametrize(
    ("choice", "plain"),
    [
        ("auto", "auto"),
        ({"type": "custom", "name": "p"}, {"type": "function", "function": {"name": "p"}}),
        ({"type": "allowed_tools", "mode": "required", "tools": [{"type": "custom", "name": "p"}]}, {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "p"}}]},
        }),
    ],
)  # fmt: skip
def test_functions_stand_for_all_of_them(choice: Any, plain: Any) -> None:
    said = chat(tool_choice=choice)
    fitted = as_functions(said)
    assert kinds(fitted["tools"]) == kinds(fitted["messages"][1]["tool_calls"]) == ["function", "function"]
    assert [call["function"]["arguments"] for call in fitted["messages"][1]["tool_calls"]] == ['{"input":"a"}'] * 2
    assert fitted["tool_choice"] == plain
    assert as_functions(fitted) is fitted
    assert kinds(said["tools"]) == ["custom", "function"]  # which nobody changed


@pytest.mark.parametrize(
    ("tools", "traits", "names"),
    [
        ([BOUND], frozenset(), ("tools[].format",)),
        ([{"type": "namespace", "name": "n", "tools": [BOUND]}], frozenset(), ("tools[].format",)),
        ([BOUND], frozenset({"custom_tools"}), ()),
        ([FREE], frozenset(), ()),
    ],
)
def test_a_grammar_that_is_lost_is_named(tools: Any, traits: frozenset[str], names: Any) -> None:
    assert request.unfit({"tools": tools}, traits) == names


@pytest.mark.parametrize("name", [None, 7, ["p"], {}])
def test_names_that_are_none_break_nothing(name: Any) -> None:
    body = {"tools": [{**BOUND, "name": name}], "tool_choice": {"type": "custom", "name": name}}
    as_functions(chat(**body))


@pytest.mark.parametrize("calls", [None, "x", ["x"], [{"type": "custom"}], [{"type": "custom", "custom": {}}]])
def test_messages_of_any_shape_break_nothing(calls: Any) -> None:
    message = {"role": "assistant", "tool_calls": calls}
    as_functions(request.chat({"model": "m", "messages": [message], "tools": [BOUND]}))
