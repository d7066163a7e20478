"""Anthropic Messages, written: an OpenAI chat completions body in this API's words.

Format: https://docs.anthropic.com/en/api/messages. Instructions stand outside the messages, roles alternate, tool
results are the user's, and `max_tokens` is required: where the client gave none, `DEFAULT_MAX_TOKENS` is sent, the one
value that this file makes up.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

import orjson

from gateway.wire.anthropic_blocks import ordered
from gateway.wire.anthropic_thinking import thought
from gateway.wire.chat_request import Fields, Message, data_url, image_url, json_schema, messages, tool_calls
from gateway.wire.values import WireError

DEFAULT_MAX_TOKENS = 8192
"""Every Claude since 3.5 takes as much. A thinking budget, which counts against it, is added."""

_SAME = {
    "cache_control": "cache_control",
    "container": "container",
    "inference_geo": "inference_geo",
    "speed": "speed",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
}
_NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}}


def encode(model: str, body: Mapping[str, Any]) -> tuple[bytes, tuple[str, ...]]:
    """The body of `POST /v1/messages`, and the names of the fields left out as advisory.

    Raises `Unsupported` for what changes the answer and has no equivalent, `WireError` for what cannot be understood.
    """
    fields = Fields("anthropic", body)
    said: dict[str, Any] = {"model": model}
    system, turns = _conversation(body, fields)
    said |= {"messages": turns} | ({"system": system} if system else {}) | fields.take_all(_SAME)
    thinks = thought(model, fields, turns)
    if thinks.thinking is not None:
        said["thinking"] = thinks.thinking
    said["max_tokens"] = _max_tokens(fields, thinks.tokens)
    stop = fields.take("stop")
    if stop is not None:
        said["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    said |= _tools(fields) | _output(fields, thinks.effort) | _service(fields)
    if body.get("stream") is True:
        said["stream"] = True
    fields.settle()
    return orjson.dumps(said), fields.ignored


def _max_tokens(fields: Fields, thinking: int) -> Any:
    newer, older = fields.take("max_completion_tokens"), fields.take("max_tokens")
    given = older if newer is None else newer
    return DEFAULT_MAX_TOKENS + thinking if given is None else given


def _service(fields: Fields) -> dict[str, Any]:
    """Who asks, as an opaque id, and which capacity."""
    said: dict[str, Any] = {}
    older, newer = fields.take("user"), fields.take("safety_identifier")
    user = older if newer is None else newer
    if user is not None:
        said["metadata"] = {"user_id": user}
    tier = fields.take("service_tier")
    if tier is not None:
        if tier not in ("auto", "default", "standard_only"):
            raise fields.unsupported("service_tier", f"it has no tier {tier!r}")
        said["service_tier"] = "auto" if tier == "auto" else "standard_only"
    return said


def _output(fields: Fields, effort: str | None) -> dict[str, Any]:
    """`output_config`: the client's own, `effort`, and what `response_format` says."""
    config = dict(fields.take_object("output_config") or {})
    if effort is not None:
        config["effort"] = effort
    response_format = fields.take_object("response_format")
    if response_format and response_format.get("type") != "text":
        config["format"] = _format(response_format, fields)
    return {"output_config": config} if config else {}


def _format(response_format: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    if response_format.get("type") != "json_schema":
        raise fields.unsupported("response_format", "it knows json_schema and text only")
    return {"type": "json_schema", "schema": json_schema(response_format)}


def _tools(fields: Fields) -> dict[str, Any]:
    tools = [_tool(f"tools[{i}]", tool, fields) for i, tool in enumerate(fields.take_list("tools") or ())]
    choice = _tool_choice(fields)
    if fields.take("parallel_tool_calls") is False and tools and (choice is None or choice["type"] != "none"):
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    return ({"tools": tools} if tools else {}) | ({"tool_choice": choice} if choice else {})


def _tool(where: str, tool: Any, fields: Fields) -> Mapping[str, Any]:
    """A function in this API's words; this API's own tools (`input_schema`, `web_search_…`) as they are."""
    if not isinstance(tool, dict):
        raise WireError(f"{where} must be an object.")
    function = tool.get("function")
    if not isinstance(function, dict):
        if tool.get("type") in ("function", "custom") and "input_schema" not in tool:
            raise fields.unsupported(where, "it is neither a function nor one of that API's own tools")
        return tool
    said = {"name": function.get("name"), "input_schema": function.get("parameters") or _NO_PARAMETERS}
    given = {"description": function.get("description"), "strict": function.get("strict")}
    given["cache_control"] = tool.get("cache_control") or function.get("cache_control")
    return said | {name: value for name, value in given.items() if value is not None}


def _tool_choice(fields: Fields) -> dict[str, Any] | None:
    choice = fields.take("tool_choice")
    if choice is None:
        return None
    if isinstance(choice, str) and choice in (words := {"auto": "auto", "none": "none", "required": "any"}):
        return {"type": words[choice]}
    if isinstance(choice, dict):
        if choice.get("type") == "function" and isinstance(choice.get("function"), dict):
            return {"type": "tool", "name": choice["function"].get("name")}
        if choice.get("type") in ("auto", "any", "tool", "none"):
            return choice
    raise fields.unsupported("tool_choice", "it knows auto, none, required and a named function")


def _conversation(body: Mapping[str, Any], fields: Fields) -> tuple[list[Any], list[dict[str, Any]]]:
    """The instructions, and the turns, neighbours of one role merged. Instructions alone are what the user says: the
    API wants a turn, where the others answer instructions."""
    system: list[Any] = []
    turns: list[dict[str, Any]] = []
    for message in messages(body):
        if message.role in {"system", "developer"}:
            _note_unknown(message, fields)
            system += _blocks(message, fields)
            continue
        role, blocks = _turn(message, fields)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    if system and not turns:
        return [], [{"role": "user", "content": system}]
    return system, turns


def _turn(message: Message, fields: Fields) -> tuple[str, list[Any]]:
    if message.role == "user":
        _note_unknown(message, fields)
        return "user", _blocks(message, fields)
    if message.role == "tool":
        _note_unknown(message, fields, "tool_call_id")
        return "user", [_tool_result(message, fields)]
    if message.role == "assistant":
        return "assistant", _assistant(message, fields)
    raise fields.unsupported(f"{message.where}.role", f"it has no role {message.role!r}")


def _assistant(message: Message, fields: Fields) -> list[Any]:
    """Thinking unchanged, for its signature covers it, and where it stood; then text; then calls."""
    _note_unknown(message, fields, "tool_calls", "thinking_blocks", "refusal", "function_call", "audio")
    if message.get("audio"):
        raise fields.unsupported(f"{message.where}.audio")
    thinking = message.get("thinking_blocks") or []
    if not isinstance(thinking, list):
        raise WireError(f"{message.where}.thinking_blocks must be an array.")
    refusal = message.get("refusal")
    text = [*_blocks(message, fields), *([{"type": "text", "text": refusal}] if refusal else [])]
    calls = [{"type": "tool_use", "id": c.id, "name": c.name, "input": c.arguments} for c in tool_calls(message)]
    return ordered(thinking, text, calls)


def _tool_result(message: Message, fields: Fields) -> dict[str, Any]:
    call_id = message.get("tool_call_id")
    if not isinstance(call_id, str):
        raise WireError(f"{message.where}.tool_call_id must be a string.")
    content = message.get("content")
    return {
        "type": "tool_result",
        "tool_use_id": call_id,
        "content": content if isinstance(content, str) else _blocks(message, fields),
    }


def _note_unknown(message: Message, fields: Fields, *known: str) -> None:
    """What a message carries beyond the conversation (names, unsigned reasoning, annotations) cannot be sent back."""
    for name in message.unknown(*known):
        fields.ignore(f"messages[].{name}")


def _blocks(message: Message, fields: Fields) -> list[Any]:
    """The content in blocks. Empty texts, which the API refuses, say nothing and are left out."""
    return [
        _block(where, part, fields) for where, part in message.parts() if part["type"] != "text" or part["text"] != ""
    ]


def _block(where: str, part: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    kind = part["type"]
    if kind == "text":
        block: dict[str, Any] = {"type": "text", "text": part["text"]}
    elif kind == "image_url":
        fields.ignore_detail(part)
        block = {"type": "image", "source": _image_source(where, part)}
    elif kind == "file":
        block = _document(where, part.get("file"), fields)
    else:
        raise fields.unsupported(where, f"it has no content of type {kind!r}")
    return block | ({"cache_control": part["cache_control"]} if part.get("cache_control") else {})


def _image_source(where: str, part: Mapping[str, Any]) -> dict[str, Any]:
    url = image_url(part, where)
    if (inline := data_url(url, where)) is not None:
        return {"type": "base64", "media_type": inline[0], "data": inline[1]}
    if not url.startswith(("https://", "http://")):
        raise WireError(f"{where}.image_url.url must be a data URL or an http(s) URL.")
    return {"type": "url", "url": url}


def _document(where: str, file: Any, fields: Fields) -> dict[str, Any]:
    """A `file` part: a PDF or a text, inline, or the URL of a PDF (`file_url`), which the provider fetches."""
    if not isinstance(file, dict):
        raise WireError(f"{where}.file must be an object.")
    if isinstance(file.get("file_data"), str):
        source = _document_source(where, file, fields)
    elif isinstance(file.get("file_url"), str) and file["file_url"].startswith(("https://", "http://")):
        source = {"type": "url", "url": file["file_url"]}
    else:
        raise fields.unsupported(f"{where}.file", "only file_data and an http(s) file_url can be sent")
    title = file.get("filename")
    return {"type": "document", "source": source} | ({"title": title} if title else {})


def _document_source(where: str, file: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    inline = data_url(file["file_data"], f"{where}.file.file_data")
    name = str(file.get("filename") or "").lower()
    media_type, data = inline or ("application/pdf" if name.endswith(".pdf") else "", file["file_data"])
    if media_type == "application/pdf":
        return {"type": "base64", "media_type": media_type, "data": data}
    if not media_type.startswith("text/"):
        raise fields.unsupported(f"{where}.file.file_data", "only PDF and text files can be sent")
    try:
        text = b64decode(data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as e:
        raise WireError(f"{where}.file.file_data must be UTF-8 text in base64.") from e
    return {"type": "text", "media_type": "text/plain", "data": text}
