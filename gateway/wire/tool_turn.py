"""The turn that waits for the results of its tools, where signed thinking must stand, and the turns before it, where it
need not.

Anthropic refuses a block with 400 once anything before it is another than when it was thought
(https://platform.claude.com/docs/en/build-with-claude/preserved-thinking), and who keeps a conversation shortens it.
The thoughts of turns that are over it does not ask for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.wire.responses.sealed import BLOCKS

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
