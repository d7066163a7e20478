"""Custom tools, whose input is one text: https://platform.openai.com/docs/guides/function-calling#custom-tools

A function with one text stands for such a tool, on every model; the answer turns its calls back. A tool whose text must
follow a grammar is one of chat's own custom tools instead, where the provider has them (the trait `custom_tools`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import orjson

CUSTOM_TOOLS = "custom_tools"
"""The trait of providers whose chat has them."""
CUSTOM_INPUT = "input"
"""The one parameter of the function that stands for a custom tool."""

Json = dict[str, Any]


def has_grammar(tool: Mapping[str, Any]) -> bool:
    """Whether a tool of a Responses request is a custom one with a grammar."""
    form = tool.get("format")
    return tool.get("type") == "custom" and isinstance(form, dict) and form.get("type") == "grammar"


def chat_tool(tool: Mapping[str, Any]) -> Json:
    """A custom tool of a Responses request, as chat has it."""
    if not has_grammar(tool):
        return _stand_in(tool)
    grammar = {name: value for name, value in tool["format"].items() if name != "type"}
    return {"type": "custom", "custom": {**_named(tool), "format": {"type": "grammar", "grammar": grammar}}}


def chat_call(call_id: Any, name: Any, text: Any, native: Collection[Any]) -> Json:
    """A call of a custom tool; `native` names those that are chat's own."""
    if name in native:
        return {"id": call_id, "type": "custom", "custom": {"name": name, "input": text}}
    return _function_call(call_id, name, text)


def as_functions(body: Json) -> Json:
    """A chat body in which functions stand for all custom tools. Never mutates."""
    if not any(_is_custom(tool) for tool in body.get("tools") or ()):
        return body
    changed: Json = {"tools": [_stand_in(tool["custom"]) if _is_custom(tool) else tool for tool in body["tools"]]}
    changed["messages"] = [_plain(message) for message in body["messages"]]
    if isinstance(choice := body.get("tool_choice"), dict):
        changed["tool_choice"] = _plain_choice(choice)
    return {**body, **changed}


def _is_custom(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") == "custom" and isinstance(value.get("custom"), dict)


def _named(tool: Mapping[str, Any]) -> Json:
    return {name: tool[name] for name in ("name", "description") if tool.get(name) is not None}


def _stand_in(tool: Mapping[str, Any]) -> Json:
    text = {"type": "string", "description": "The tool's whole input, as plain text."}
    schema = {"type": "object", "properties": {CUSTOM_INPUT: text}, "required": [CUSTOM_INPUT]}
    return {"type": "function", "function": {**_named(tool), "parameters": schema}}


def _function_call(call_id: Any, name: Any, text: Any) -> Json:
    arguments = orjson.dumps({CUSTOM_INPUT: text}).decode()
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _plain(message: Json) -> Json:
    calls = message.get("tool_calls")
    if not isinstance(calls, list) or not any(_is_custom(call) for call in calls):
        return message
    plain = [
        _function_call(call.get("id"), call["custom"].get("name"), call["custom"].get("input"))
        if _is_custom(call)
        else call
        for call in calls
    ]
    return {**message, "tool_calls": plain}


def _plain_choice(choice: Json) -> Json:
    if _is_custom(choice):
        return {"type": "function", "function": {"name": choice["custom"].get("name")}}
    if choice.get("type") == "allowed_tools":
        inner = choice["allowed_tools"]
        return {**choice, "allowed_tools": {**inner, "tools": [_plain_choice(tool) for tool in inner["tools"]]}}
    return choice
