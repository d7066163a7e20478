"""Tools: what the model asked for."""

from __future__ import annotations

from typing import ClassVar

from eventstore.catalogue.event import Event, event
from eventstore.value import value


@event
@value(kw_only=True)
class ToolCalled(Event):
    """The model asked for a tool. `arguments` is the text as it wrote it, JSON or not; absent with retention none."""

    type: ClassVar[str] = "tool_called"
    CONTENT: ClassVar[frozenset[str]] = frozenset({"arguments"})

    request_id: str
    attempt: int
    provider: str
    model: str
    tool_name: str
    call_id: str
    choice: int = 0
    arguments: str | None = None
