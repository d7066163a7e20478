"""Tools: what the model asked for, what was run for it and what came of that, and which tools there are.

A tool that runs for a request is recorded on the request's stream (`request_id`, `attempt` of the call that asked for
it); one that a client runs by itself on the stream `tool-<name>`. Registrations are on the stream `tools`.
Between a `tool_started` and its one end, `tool_completed` or `tool_failed`, `call_id` is what binds them.
"""

from __future__ import annotations

from typing import Any, ClassVar

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


@event
@value(kw_only=True)
class ToolStarted(Event):
    """A tool is about to be run. `kind` is `python`, `http` or `mcp`; `key` is who runs it, where no request does, and
    then `arguments` are those that it sent."""

    type: ClassVar[str] = "tool_started"
    CONTENT: ClassVar[frozenset[str]] = frozenset({"arguments"})

    tool_name: str
    call_id: str
    kind: str
    request_id: str | None = None
    attempt: int | None = None
    key: str | None = None
    arguments: str | None = None


@event
@value(kw_only=True)
class ToolProgress(Event):
    """A running tool said how far it is: `progress` of `total`, in units of its own."""

    type: ClassVar[str] = "tool_progress"
    CONTENT: ClassVar[frozenset[str]] = frozenset({"message"})

    tool_name: str
    call_id: str
    progress: float
    total: float | None = None
    message: str | None = None
    request_id: str | None = None
    attempt: int | None = None


@event
@value(kw_only=True)
class ToolCompleted(Event):
    """A tool gave its result. `output` is the text that the model is shown, `digest` its sha256 and `length` its bytes;
    `cut` says that the tool gave more than that."""

    type: ClassVar[str] = "tool_completed"
    CONTENT: ClassVar[frozenset[str]] = frozenset({"output"})

    tool_name: str
    call_id: str
    duration_ms: float
    length: int
    digest: str
    cut: bool = False
    output: str | None = None
    request_id: str | None = None
    attempt: int | None = None


@event
@value(kw_only=True)
class ToolFailed(Event):
    """A tool gave no result. `kind` is `bad_arguments` (it was not run), `timeout`, `tool_error` (it said so itself),
    `unreachable`, `removed`, `cancelled` (its client left, or its request was stopped or had no more time) or
    `interrupted` (we ended). `message` is what the model is told."""

    type: ClassVar[str] = "tool_failed"
    CONTENT: ClassVar[frozenset[str]] = frozenset({"message"})

    tool_name: str
    call_id: str
    kind: str
    message: str | None = None
    duration_ms: float | None = None
    request_id: str | None = None
    attempt: int | None = None


@event
@value(kw_only=True)
class ToolRegistered(Event):
    """An HTTP tool was registered while the server runs. `parameters` is the JSON Schema of its arguments, which are
    posted to `endpoint`; `header_env` gives for each header the name of the variable that holds its value."""

    type: ClassVar[str] = "tool_registered"

    tool_name: str
    key: str
    endpoint: str
    description: str
    parameters: dict[str, Any]
    timeout_s: float | None = None
    header_env: dict[str, str] | None = None


@event
@value(kw_only=True)
class ToolRemoved(Event):
    """A tool that was registered while the server runs is no longer offered."""

    type: ClassVar[str] = "tool_removed"

    tool_name: str
    key: str
