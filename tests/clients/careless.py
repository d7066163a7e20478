"""Bugs put in on purpose (see `tests/spoilt.py`): in what clients are told, and in what is counted of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.exchange import failures
from gateway.wire import openai_chat
from gateway.wire.openai_chat_answer import ChatStream
from gateway.wire.values import Fold, ToolCallDelta, Usage


def unnumbered() -> None:
    """The calls of a stream are all number 0."""
    told = ChatStream._tool_calls

    def first(self: ChatStream, index: int, calls: Sequence[ToolCallDelta], out: list[bytes]) -> None:
        told(self, index, [replace(call, index=0) for call in calls], out)

    setattr(ChatStream, "_tool_calls", first)  # noqa: B010


def unending() -> None:
    """A stream closes without saying that it is whole."""
    completed = ChatStream.completed

    def closed(self: ChatStream, fold: Fold) -> bytes:
        return completed(self, fold).removesuffix(b"data: [DONE]\n\n")

    setattr(ChatStream, "completed", closed)  # noqa: B010


def unsaid() -> None:
    """Nobody is told when to try again."""
    setattr(failures, "passed_on", lambda headers: {})  # noqa: B010


def uncached() -> None:
    """What a prompt had from the provider's cache is not counted."""
    counted = openai_chat.usage_of

    def without(raw: Mapping[str, Any]) -> Usage:
        return replace(counted(raw), cache_read_tokens=0)

    setattr(openai_chat, "usage_of", without)  # noqa: B010


BUGS = {bug.__name__: bug for bug in (unnumbered, unending, unsaid, uncached)}
