"""Where signed thinking stays in a conversation that somebody keeps."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.wire.tool_turn import calls_told_again, signed_in_open_turn

SYSTEM, USER, TOOL = ({"role": role, "content": "x"} for role in ("system", "user", "tool"))
BARE: dict[str, Any] = {"role": "assistant", "content": "y"}
SIGNED = {**BARE, "thinking_blocks": [{"type": "thinking", "thinking": "z", "signature": "s"}]}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([SYSTEM, USER, SIGNED, TOOL], [SYSTEM, USER, SIGNED, TOOL]),
        ([USER, SIGNED, TOOL, TOOL, SIGNED, TOOL], [USER, SIGNED, TOOL, TOOL, SIGNED, TOOL]),
        ([USER, SIGNED, TOOL, USER], [USER, SIGNED, TOOL, USER]),
        ([USER, SIGNED, TOOL, SIGNED, USER], [USER, BARE, TOOL, BARE, USER]),
        ([USER, SIGNED, USER, SIGNED, TOOL], [USER, BARE, USER, SIGNED, TOOL]),
        ([USER], [USER]),
        ([SYSTEM], [SYSTEM]),
        ([TOOL], [TOOL]),
    ],
)
def test_it_stays_where_results_are_waited_for(messages: list[Any], expected: list[Any]) -> None:
    given = [dict(message) for message in messages]
    assert signed_in_open_turn(messages) == expected
    assert messages == given, "what was given is as it was"


def calling(arguments: Any) -> dict[str, Any]:
    function = {"name": "f", "arguments": arguments}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": function}]}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ('{"n": 18446744073709551616}', '{"n": 18446744073709551616}'),
        ("", ""),
        (None, None),
        ('{"city"', '{"input":"{\\"city\\""}'),
        ("[1]", '{"input":"[1]"}'),
        ("null", '{"input":"null"}'),
        ('```json\n{"a": 1}\n```', '{"a": 1}'),
    ],
)
def test_arguments_are_told_again_as_an_object(arguments: Any, told: Any) -> None:
    given = calling(arguments)
    assert calls_told_again(given) == calling(told)
    assert given == calling(arguments)


def test_what_calls_no_function_is_told_as_it_is() -> None:
    custom = {**BARE, "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "f", "input": "{"}}]}
    assert [calls_told_again(message) for message in (custom, BARE, TOOL)] == [custom, BARE, TOOL]
