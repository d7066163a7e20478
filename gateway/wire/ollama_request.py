"""Ollama's chat, written: an OpenAI chat completions body in the words of `POST /api/chat`.

Format: https://docs.ollama.com/api/chat. Sampling is in `options`, images are base64 beside the text, tool arguments
are objects, `stream` is true unless it is said to be false.

Ollama's context is 4096 tokens on most machines, and a longer prompt is cut from the front without a word. So that what
the client sends is what the model reads, two things are added, unless the client says them itself:
    truncate: false      a prompt that does not fit is an error (older servers ignore the field)
    options.num_ctx      only where the prompt and its answer, estimated, do not fit in 4096 tokens: the next power of
                         two that holds them; in such steps, because every change makes the server load the model anew
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.wire.chat_request import Fields, Message, data_url, image_url, json_schema, messages, tool_calls
from gateway.wire.thinking import wish
from gateway.wire.values import Undirected, WireError

SMALLEST_CONTEXT = 4096
BYTES_PER_TOKEN = 3
"""Fewer than the 4 of English prose: code and other scripts have more tokens to the byte."""
TOKENS_PER_IMAGE = 1024
ANSWER_TOKENS = 1024
"""Room for an answer whose length the client did not bound."""

_OPTIONS = {
    "frequency_penalty": "frequency_penalty",
    "min_p": "min_p",
    "num_ctx": "num_ctx",
    "presence_penalty": "presence_penalty",
    "repeat_penalty": "repeat_penalty",
    "seed": "seed",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
}
_SAME = {
    "format": "format",
    "keep_alive": "keep_alive",
    "logprobs": "logprobs",
    "shift": "shift",
    "think": "think",
    "top_logprobs": "top_logprobs",
    "truncate": "truncate",
}
_EFFORTS: Mapping[str, Any] = {
    "none": False, "minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"
}  # fmt: skip
"""OpenAI's words -> the nearest that it has."""


def encode(model: str, body: Mapping[str, Any]) -> tuple[bytes, tuple[str, ...]]:
    """The body of `POST /api/chat`, and the names of the fields left out as advisory.

    Raises `Unsupported` for what changes the answer and has no equivalent, `WireError` for what cannot be understood.
    """
    fields = Fields("ollama", body)
    said: dict[str, Any] = {"model": model, "messages": _messages(body, fields), "stream": body.get("stream") is True}
    said |= {"truncate": False} | _think(fields, model) | fields.take_all(_SAME) | _format(fields) | _tools(fields)
    options = _options(fields)
    fields.settle()
    if "num_ctx" not in options and (context := _context(said, options)):
        options["num_ctx"] = context
    if options:
        said["options"] = options
    return orjson.dumps(said), fields.ignored


def _options(fields: Fields) -> dict[str, Any]:
    """`options` as the client gave it, with what the standard fields say."""
    options = dict(fields.take_object("options") or {}) | fields.take_all(_OPTIONS)
    stop = fields.take("stop")
    if stop is not None:
        options["stop"] = [stop] if isinstance(stop, str) else stop
    newer, older = fields.take("max_completion_tokens"), fields.take("max_tokens")
    most = older if newer is None else newer
    if most is not None:
        options["num_predict"] = most
    return options


def _context(said: Mapping[str, Any], options: Mapping[str, Any]) -> int | None:
    """The `num_ctx` that this prompt needs, None where the smallest default holds it."""
    images = sum(len(m.get("images", ())) for m in said["messages"])
    texts = [{k: v for k, v in m.items() if k != "images"} for m in said["messages"]]
    prompt = len(orjson.dumps([texts, said.get("tools")])) // BYTES_PER_TOKEN + images * TOKENS_PER_IMAGE
    most = options.get("num_predict")
    need = prompt + (most if isinstance(most, int) and most > 0 else ANSWER_TOKENS)
    return None if need <= SMALLEST_CONTEXT else 1 << (need - 1).bit_length()


def _think(fields: Fields, model: str) -> dict[str, Any]:
    """From `thinking`, a word or Anthropic's object, or from `reasoning_effort`; Ollama's own `think` beats both.

    Only gpt-oss knows levels (https://docs.ollama.com/capabilities/thinking).
    """
    effort, thinking = fields.take("reasoning_effort"), fields.take("thinking")
    if isinstance(thinking, dict):
        if thinking.get("type") not in ("enabled", "adaptive", "disabled"):
            raise fields.unsupported("thinking", "it knows enabled and disabled")
        thinking = thinking["type"] != "disabled"
    if (wished := wish(thinking)) is not None:
        if effort is not None:
            fields.ignore("reasoning_effort")
        if wished in ("on", "off") or "gpt-oss" not in model:
            return {"think": wished != "off"}
        return {"think": _EFFORTS[wished]}
    if effort is None:
        return {}
    if not isinstance(effort, str) or effort not in _EFFORTS:
        raise fields.unsupported("reasoning_effort", f"it has no effort {effort!r}")
    return {"think": _EFFORTS[effort]}


def _format(fields: Fields) -> dict[str, Any]:
    response_format = fields.take_object("response_format") or {}
    kind = response_format.get("type", "text")
    if kind == "text":
        return {}
    if kind == "json_object":
        return {"format": "json"}
    if kind == "json_schema":
        return {"format": json_schema(response_format)}
    raise fields.unsupported("response_format", f"it has no format {kind!r}")


def _tools(fields: Fields) -> dict[str, Any]:
    """Only functions, and only as the model likes: a choice cannot be forced. `none` is kept by offering no tools."""
    tools = [_tool(f"tools[{i}]", tool, fields) for i, tool in enumerate(fields.take_list("tools") or ())]
    choice = fields.take("tool_choice")
    if choice not in (None, "auto", "none"):
        raise fields.unsupported("tool_choice", "it knows auto and none", Undirected)
    if fields.take("parallel_tool_calls") is False and choice != "none":
        raise fields.unsupported("parallel_tool_calls", "it makes as many calls as it likes", Undirected)
    return {"tools": tools} if tools and choice != "none" else {}


def _tool(where: str, tool: Any, fields: Fields) -> dict[str, Any]:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict):
        raise fields.unsupported(where, "it knows functions only")
    if function.get("strict"):
        fields.ignore("tools[].function.strict")
    return {"type": "function", "function": {k: v for k, v in function.items() if k != "strict" and v is not None}}


def _messages(body: Mapping[str, Any], fields: Fields) -> list[dict[str, Any]]:
    names: dict[str, str] = {}
    return [_message(message, fields, names) for message in messages(body)]


def _message(message: Message, fields: Fields, names: dict[str, str]) -> dict[str, Any]:
    """`names` are the functions called so far, by the id of the call: a result is told apart by the function's name."""
    match message.role:
        case "system" | "developer":
            _note_unknown(message, fields)
            return {"role": "system", **_content(message, fields)}
        case "user":
            _note_unknown(message, fields)
            return {"role": "user", **_content(message, fields)}
        case "assistant":
            return _assistant(message, fields, names)
        case "tool":
            return _tool_result(message, fields, names)
    raise fields.unsupported(f"{message.where}.role", f"it has no role {message.role!r}")


def _assistant(message: Message, fields: Fields, names: dict[str, str]) -> dict[str, Any]:
    _note_unknown(message, fields, "tool_calls", "reasoning_content", "reasoning", "refusal", "function_call", "audio")
    if message.get("audio"):
        raise fields.unsupported(f"{message.where}.audio")
    said: dict[str, Any] = {"role": "assistant", **_content(message, fields)}
    said["content"] = said["content"] or message.get("refusal") or ""
    thinking = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thinking, str):
        said["thinking"] = thinking
    calls = list(tool_calls(message))
    names.update({call.id: call.name for call in calls})
    if calls:
        said["tool_calls"] = [{"id": c.id, "function": {"name": c.name, "arguments": c.arguments}} for c in calls]
    return said


def _tool_result(message: Message, fields: Fields, names: dict[str, str]) -> dict[str, Any]:
    _note_unknown(message, fields, "tool_call_id", "name")
    call_id = message.get("tool_call_id")
    if not isinstance(call_id, str):
        raise WireError(f"{message.where}.tool_call_id must be a string.")
    name = names.get(call_id) or message.get("name")
    named = {"tool_name": name} if name else {}
    return {"role": "tool", **_content(message, fields), **named, "tool_call_id": call_id}


def _note_unknown(message: Message, fields: Fields, *known: str) -> None:
    for name in message.unknown(*known):
        fields.ignore(f"messages[].{name}")


def _content(message: Message, fields: Fields) -> dict[str, Any]:
    """The texts as one, a line each, and the images beside it."""
    texts: list[str] = []
    images: list[str] = []
    for where, part in message.parts():
        if part["type"] == "text":
            texts.append(part["text"])
        elif part["type"] == "image_url":
            images.append(_image(where, part, fields))
        else:
            raise fields.unsupported(where, f"it has no content of type {part['type']!r}")
    return {"content": "\n".join(texts)} | ({"images": images} if images else {})


def _image(where: str, part: Mapping[str, Any], fields: Fields) -> str:
    inline = data_url(image_url(part, where), where)
    if inline is None:
        raise fields.unsupported(where, "it fetches no image URL: send a data URL")
    fields.ignore_detail(part)
    return inline[1]
