"""The response object and its items: https://platform.openai.com/docs/api-reference/responses/object"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from eventstore.catalogue.values import Usage
from gateway.wire.dialect import Form
from gateway.wire.responses.custom import CUSTOM_INPUT
from gateway.wire.responses.request import tools_of
from gateway.wire.responses.sealed import ASKED, seal
from gateway.wire.values import Fold

ECHO_BYTES = 4096
"""Instructions and tools over this many bytes of JSON are not echoed: agents send 40 KB of them with every turn, and
would get them back three times."""
_ECHOED: Mapping[str, Any] = {
    "background": False,
    "frequency_penalty": 0.0,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""Fields of the request that the response repeats, and what they are where the request does not say: the API's own
defaults, since https://www.openresponses.org/specification has no null for a number. Objects are filled up."""
_TOOL: Mapping[str, Any] = {"description": None, "parameters": None, "strict": None}
"""What a function always has where it is repeated."""
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def options_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """What the response repeats of its request, and how calls are told: the names of custom tools, and the namespaces
    that functions stand in."""
    options = {name: body[name] for name in _ECHOED if body.get(name) is not None}
    if ASKED in (body.get("include") or ()):
        options["sealed"] = True
    for name in ("instructions", "tools"):
        held = _plain_tools(body) if name == "tools" else body.get(name)
        if held and len(orjson.dumps(held)) <= ECHO_BYTES:
            options[name] = held
    found = list(tools_of(body))
    if custom := [tool.get("name") for _, tool in found if tool["type"] == "custom"]:
        options["custom"] = custom
    if spaces := {str(tool.get("name")): space for space, tool in found if space is not None}:
        options["namespaces"] = spaces
    return options


def _plain_tools(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Functions and custom tools: others can hold credentials."""
    return [tool for tool in body.get("tools") or () if tool.get("type") in ("function", "custom")]


def response_object(
    form: Form, status: str, output: list[dict[str, Any]], usage: Usage | None = None, **fields: Any
) -> dict[str, Any]:
    """The whole object. `status` is queued, in_progress, completed, incomplete, failed or cancelled."""
    echoed = {name: _echo(form.options.get(name), usual) for name, usual in _ECHOED.items()}
    tools = form.options.get("tools", [])
    return {
        "id": f"resp_{form.request_id}",
        "object": "response",
        "created_at": form.created,
        "completed_at": None,  # when it ends is known only once it is written
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": form.options.get("instructions"),
        "model": form.model,
        "output": output,
        "tools": [{**_TOOL, **tool} if tool["type"] == "function" else tool for tool in tools],
        **echoed,
        "usage": None if usage is None else usage_object(usage),
        **fields,
    }


def _echo(said: Any, usual: Any) -> Any:
    if isinstance(said, dict) and isinstance(usual, dict):
        return {**usual, **{name: value for name, value in said.items() if value is not None}}
    return usual if said is None else said


def ending(fold: Fold) -> tuple[str, dict[str, Any]]:
    """(status, further fields) of an answer: by its finish reason, and by the service tier that the provider named."""
    tier, reason = (fold.meta.top or {}).get("service_tier"), fold.finish_reason
    fields = {"service_tier": tier} if isinstance(tier, str) else {}
    if reason in _INCOMPLETE:
        return "incomplete", {**fields, "incomplete_details": {"reason": _INCOMPLETE[reason]}}
    return "completed", fields


def usage_object(usage: Usage) -> dict[str, Any]:
    """Their counts."""
    written = usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cache_read_tokens, "cache_write_tokens": written},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def error_object(error: Mapping[str, Any]) -> dict[str, Any]:
    """`{code, message}` of an error that ended a response."""
    limited = error.get("type") == "rate_limit_error" or error.get("code") == "rate_limit_exceeded"
    return {"code": "rate_limit_exceeded" if limited else "server_error", "message": error.get("message")}


def text_part(text: str, logprobs: Any = None, annotations: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": list(annotations), "logprobs": logprobs or []}


def annotations_of(extra: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A delta's annotations. Chat has their fields in an object named as their type; here they stand beside it."""
    given = extra.get("annotations")
    found = [each for each in given if isinstance(each, dict)] if isinstance(given, list) else []
    return [_flat(each) for each in found if isinstance(each.get("type"), str)]


def _flat(annotation: dict[str, Any]) -> dict[str, Any]:
    fields = annotation.get(annotation["type"])
    return {"type": annotation["type"], **fields} if isinstance(fields, dict) else annotation


def refusal_part(text: str) -> dict[str, Any]:
    return {"type": "refusal", "refusal": text}


def message_item(form: Form, index: int, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    """A message of the model's; `index` is the item's place in the output."""
    item_id = f"msg_{form.request_id}_{index}"
    return {"id": item_id, "type": "message", "status": status, "role": "assistant", "content": content}


def reasoning_item(
    form: Form, index: int, status: str, text: str | None, signed: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """What the model thought: as a summary where one was asked for, else as it is; `signed` is what it wants back."""
    item: dict[str, Any] = {"id": f"rs_{form.request_id}_{index}", "type": "reasoning", "status": status, "summary": []}
    if signed:
        item["encrypted_content"] = seal(signed)
    if text is None:
        return item
    if summarised(form):
        return item | {"summary": [{"type": "summary_text", "text": text}]}
    return item | {"content": [{"type": "reasoning_text", "text": text}]}


def summarised(form: Form) -> bool:
    """Whether the client asked for summaries of the reasoning."""
    return bool((form.options.get("reasoning") or {}).get("summary"))


def is_custom(form: Form, name: str | None) -> bool:
    """Whether a tool's input is a text, not an object."""
    return name in form.options.get("custom", ())


def call_item(form: Form, index: int, status: str, call_id: str, name: str, arguments: str) -> dict[str, Any]:
    """A call of a function."""
    item = {"id": f"fc_{form.request_id}_{index}", "type": "function_call", "status": status, "call_id": call_id}
    space = form.options.get("namespaces", {}).get(name)
    return item | {"name": name, "arguments": arguments} | ({"namespace": space} if space else {})


def custom_item(form: Form, index: int, status: str, call_id: str, name: str, text: str) -> dict[str, Any]:
    """A call of a custom tool."""
    item = {"id": f"ctc_{form.request_id}_{index}", "type": "custom_tool_call", "status": status}
    return item | {"call_id": call_id, "name": name, "input": text}


def custom_input(arguments: str) -> str:
    """The text for a custom tool, out of the function that stands for it; other arguments are given as they are."""
    try:
        value = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return arguments
    text = value.get(CUSTOM_INPUT) if isinstance(value, dict) else None
    return text if isinstance(text, str) else arguments
