"""What a model is told again of its own turns: the calls that it made, and signed thinking in the turn that waits for
results, where it must stand, and not in those before, where it need not.

Anthropic refuses a block with 400 once anything before it is another than when it was thought
(https://platform.claude.com/docs/en/build-with-claude/preserved-thinking), and who keeps a conversation shortens it.
The thoughts of turns that are over it does not ask for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from gateway.wire.responses.sealed import BLOCKS
from gateway.wire.structure import only_json

_WORK = ("assistant", "tool")


def signed_in_open_turn(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages, with signed thinking in that turn alone. Never mutates."""
    at = _begin(messages)
    return [*map(_unsigned, messages[:at]), *messages[at:]]


def _begin(messages: Sequence[dict[str, Any]]) -> int:
    """Where it begins; behind the last message where no turn waits. Words of the user's may follow the results."""
    at = len(messages)
    while at and messages[at - 1]["role"] not in _WORK:
        at -= 1
    if not at or messages[at - 1]["role"] != "tool":
        return len(messages)
    while at and messages[at - 1]["role"] in _WORK:
        at -= 1
    return at


def _unsigned(message: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name != BLOCKS} if BLOCKS in message else message


def calls_told_again(message: dict[str, Any]) -> dict[str, Any]:
    """The message, with calls that every family can carry: most have an object for a call's arguments, and models give
    other texts too. Such a text stands in an object as its `input`, to be seen with what was wrong. Never mutates."""
    calls = message.get("tool_calls")
    return {**message, "tool_calls": [_told_again(call) for call in calls]} if calls else message


def _told_again(call: Mapping[str, Any]) -> Mapping[str, Any]:
    function = call.get("function")
    given = function.get("arguments") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(given, str) or not given or _is_object(given):
        return call
    bare = only_json(given)
    text = bare if _is_object(bare) else orjson.dumps({"input": given}).decode()
    return {**call, "function": {**function, "arguments": text}}


def _is_object(text: str) -> bool:
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False
