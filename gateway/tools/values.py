"""What a tool is, and how running one can go wrong. Pure."""

from __future__ import annotations

import re
from typing import Any, Literal, Protocol

from eventstore.value import value
from gateway.errors import InvalidRequest
from gateway.wire.structure import WHERE, Structure, wanted
from gateway.wire.values import WireError

Kind = Literal["python", "http", "mcp"]
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}", re.ASCII)
"""What providers take as a function's name."""
OUTPUT_LIMIT = 64 * 1024
"""Bytes of a result that a model is shown, and that the log keeps."""
SHOWN_OF_ERRORS = 500
"""Characters of what a tool said when it gave no result."""
CUT = "\n[cut: the result is longer]"


@value(kw_only=True)
class Tool:
    """`parameters` is the JSON Schema of the arguments, an object. `source` is the module, the endpoint or the MCP
    server that it comes from; `timeout_s` is its own, None for the server's."""

    name: str
    description: str
    parameters: dict[str, Any]
    kind: Kind
    source: str
    timeout_s: float | None = None

    def function(self) -> dict[str, Any]:
        """As it stands in a chat completions request's `tools`
        (https://platform.openai.com/docs/guides/function-calling)."""
        said = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": said}


class ToolTrouble(Exception):
    """A tool gave no result. `kind` is a word of `tool_failed`; `message` is for the model, and for the log; `quoted`
    is what the tool said, whose beginning is shown behind it."""

    def __init__(self, kind: str, message: str, quoted: str = "") -> None:
        super().__init__(message)
        self.kind, self.message, self.quoted = kind, message, quoted


class Progress(Protocol):
    """Takes how far a tool is, in units of its own."""

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None: ...


class Runs(Protocol):
    """Runs one tool."""

    async def __call__(self, arguments: dict[str, Any], progress: Progress) -> str:
        """The result as text. Raises `ToolTrouble`; cancelled, it stops what it can."""


@value
class Offered:
    """A tool, and what runs it."""

    tool: Tool
    run: Runs


def check_parameters(schema: Any) -> None:
    """Raises `InvalidRequest` for what is no JSON Schema of an object, or cannot be checked in bounded time."""
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise InvalidRequest("parameters must be a JSON Schema of type object.", param="parameters")
    try:
        wanted({"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}})
    except WireError as error:
        raise InvalidRequest(f"{error}.".replace(WHERE, "parameters"), param="parameters") from error


def problem_of(tool: Tool, arguments: str) -> str | None:
    """What is wrong with the text of a call's arguments, in words for the model; None where they will do."""
    try:
        problem = Structure(None).problem(arguments or "{}") or Structure(tool.parameters).problem(arguments or "{}")
    except WireError as error:
        problem = f"They cannot be checked: {error}."
    return None if problem is None else f"The arguments are wrong. {problem}"


def capped(text: str) -> tuple[str, bool]:
    """At most `OUTPUT_LIMIT` bytes of a result, and whether there was more."""
    data = text.encode("utf-8", "replace")
    if len(data) <= OUTPUT_LIMIT:
        return data.decode(), False
    return data[: OUTPUT_LIMIT - len(CUT)].decode(errors="ignore") + CUT, True
