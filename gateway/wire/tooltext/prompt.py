"""Tools in the prompt: a chat body with tools as one that a model without tools understands. Pure.

Definitions go into the system message; an assistant's calls become text in the format's own words, and results text of
the user's. `tool_choice` is respected as far as words can: `none` describes no tool, `required` and a named function
are demanded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from gateway.wire.chat_request import Message, messages, tool_calls
from gateway.wire.tooltext.formats import Format
from gateway.wire.values import Unsupported, WireError

TOOL_FIELDS = frozenset({"tools", "tool_choice", "parallel_tool_calls"})
_SYSTEM = frozenset({"system", "developer"})


def prompted(body: Mapping[str, Any], format: Format) -> dict[str, Any]:
    """The body without tools, which its messages now tell of. Never mutates.

    Raises `WireError` for tools or messages that cannot be understood, `Unsupported` for tools that are no functions.
    """
    told = list(_messages(body, format))
    choice = _Choice(body.get("tool_choice"))
    if tools := choice.allowed(_functions(body.get("tools"))):
        _add_system(told, instructions(tools, choice, body.get("parallel_tool_calls") is not False, format))
    return {key: value for key, value in body.items() if key not in TOOL_FIELDS} | {"messages": told}


def offers_tools(body: Mapping[str, Any]) -> bool:
    """Whether the model may call something."""
    return bool(body.get("tools")) and body.get("tool_choice") != "none"


def speaks_of_tools(body: Mapping[str, Any]) -> bool:
    """Whether anything of the body is about tools: those on offer, or calls and results of before."""
    if body.get("tools"):
        return True
    history = body.get("messages")
    for message in history if isinstance(history, list) else ():  # a plain loop: this runs for every request
        if isinstance(message, dict) and (message.get("role") == "tool" or message.get("tool_calls")):
            return True
    return False


class _Choice:
    """What `tool_choice` says: `mode` is auto, none or required; `names` are the functions that it leaves, None all."""

    def __init__(self, said: Any) -> None:
        self.mode, self.names = "auto", None
        if said in (None, "auto", "none", "required"):
            self.mode = said or "auto"
            return
        kind = said.get("type") if isinstance(said, dict) else None
        inner = said.get(kind) if kind in ("function", "allowed_tools") else None
        if not isinstance(inner, dict):
            raise WireError("tool_choice must be none, auto, required, or name a function.")
        if kind == "function":
            self.mode, self.names = "required", [inner.get("name")]
        else:
            self.mode = "required" if inner.get("mode") == "required" else "auto"
            self.names = [function["name"] for function in _functions(inner.get("tools"))]

    def allowed(self, functions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those of the functions that may be called."""
        if self.mode == "none":
            return []
        if self.names is None:
            return functions
        left = [function for function in functions if function["name"] in self.names]
        if not left:
            raise WireError("tool_choice names a function that is not among the tools.")
        return left


def _functions(tools: Any) -> list[dict[str, Any]]:
    """The function of each tool. Raises `WireError`, `Unsupported`."""
    functions = []
    for i, tool in enumerate(tools or ()):
        function = tool.get("function") if isinstance(tool, dict) else None
        if isinstance(tool, dict) and tool.get("type", "function") != "function":
            raise Unsupported(f"tools[{i}]", f"tools[{i}] is no function: a model is told of functions only.")
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise WireError(f"tools[{i}].function needs a name.")
        functions.append(function)
    return functions


def instructions(functions: list[dict[str, Any]], choice: _Choice, parallel: bool, format: Format) -> str:
    """What the system message says of the tools."""
    opens, closes = format.definitions
    defined = "\n".join(_text({"type": "function", "function": function}) for function in functions)
    example = call_text(format, "function-name", '{"argument-name": "value"}')
    return "\n\n".join(
        [
            "# Tools",
            "You can call functions to help the user. These are their signatures, one JSON object each:",
            f"{opens}{defined}{closes}",
            f"To call a function, write its name and its arguments as JSON, exactly in this form:\n\n{example}",
            _rules(functions, choice.mode == "required", parallel),
        ]
    )


def _rules(functions: list[dict[str, Any]], required: bool, parallel: bool) -> str:
    several = "To make several calls, write them one after the other." if parallel else "Make at most one call."
    rules = [several, "Then stop: the results come in the next message."]
    if not required:
        return " ".join([*rules, "If no function is needed, answer without a call."])
    which = f"the function {functions[0]['name']}" if len(functions) == 1 else "one of the functions"
    return " ".join([*rules, f"You must call {which} now, and write nothing else."])


def call_text(format: Format, name: str, arguments: str) -> str:
    """A call in the format's words. `arguments` is JSON text."""
    opens, closes = format.call
    return f'{opens}{{"name": {_text(name)}, "{format.arguments}": {arguments}}}{closes}'


def _messages(body: Mapping[str, Any], format: Format) -> Iterator[dict[str, Any]]:
    """The conversation without tool calls and roles for them. Results that follow each other are one message."""
    names: dict[str, str] = {}
    results: list[dict[str, Any]] = []
    for message in messages(body):
        if message.role == "tool":
            results += _result(message, names, format)
            continue
        if results:
            yield _user(results)
            results = []
        if message.get("tool_calls"):
            yield _called(message, names, format)
        else:
            yield dict(message.value)
    if results:
        yield _user(results)


def _called(message: Message, names: dict[str, str], format: Format) -> dict[str, Any]:
    """An assistant's message, its calls as text behind its own."""
    said = [text for _, part in message.parts() if (text := part.get("text"))]
    for call in tool_calls(message):
        names[call.id] = call.name
        said.append(call_text(format, call.name, _text(call.arguments)))
    told = {key: value for key, value in message.value.items() if key not in {"tool_calls", "content"}}
    return {**told, "content": "\n".join(said)}


def _result(message: Message, names: Mapping[str, str], format: Format) -> list[dict[str, Any]]:
    """A result as parts of a user's message: its text between the format's tags, and what is no text after it."""
    parts = [part for _, part in message.parts()]
    text = "".join(part["text"] for part in parts if part["type"] == "text")
    call_id = message.get("tool_call_id")
    name = names.get(call_id, message.get("name")) if isinstance(call_id, str) else message.get("name")
    said = _text({"name": name, "content": text}) if isinstance(name, str) else text
    opens, closes = format.result
    return [{"type": "text", "text": opens + said + closes}, *(dict(p) for p in parts if p["type"] != "text")]


def _user(parts: list[dict[str, Any]]) -> dict[str, Any]:
    if all(part["type"] == "text" for part in parts):
        return {"role": "user", "content": "\n".join(part["text"] for part in parts)}
    return {"role": "user", "content": parts}


def _add_system(told: list[dict[str, Any]], text: str) -> None:
    """Behind what the first message says, if it is the system's; else before all."""
    first = told[0]
    if first["role"] not in _SYSTEM:
        told.insert(0, {"role": "system", "content": text})
    elif isinstance(content := first.get("content"), list):
        told[0] = {**first, "content": [*content, {"type": "text", "text": text}]}
    else:
        told[0] = {**first, "content": f"{content}\n\n{text}" if content else text}


def _text(value: Any) -> str:
    return orjson.dumps(value).decode()
