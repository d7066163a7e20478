"""Where signed thinking stays in a conversation that somebody keeps."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.wire.tool_turn import signed_in_open_turn

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
