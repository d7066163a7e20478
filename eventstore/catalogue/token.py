"""Tokens: composed from the frames lane when read, never stored as such."""

from __future__ import annotations

from typing import Any, ClassVar

from eventstore.catalogue.event import Event, event
from eventstore.value import value


@event
@value(kw_only=True)
class TokenGenerated(Event):
    """One upstream frame. `text` (or `reasoning`, `refusal`, `tool_call {index, id, name, arguments}`) where the frame
    has it; a frame without content (role, usage, end mark) has none of them. `offset_ms` counts from the call.

    A frame with several calls lists all of them in `tool_calls`; one with several choices (a whole answer is one frame)
    has the other ones in `more`, each `{choice, text, …}`."""

    type: ClassVar[str] = "token_generated"
    CONTENT: ClassVar[frozenset[str]] = frozenset({"text", "reasoning", "refusal", "tool_call", "tool_calls", "more"})

    request_id: str
    attempt: int
    frame: int
    offset_ms: float
    choice: int = 0
    text: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_call: dict[str, Any] | None = None
    finish_reason: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    more: list[dict[str, Any]] | None = None
