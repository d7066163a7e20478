"""A Responses request: what is checked at the door, and the same request as a chat completions body.

Tools and items of kinds that chat has no word for are left out, never refused: clients such as Codex send them to every
model.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Set
from typing import Any

from pydantic import ConfigDict, TypeAdapter, with_config
from typing_extensions import TypedDict

from gateway.errors import InvalidRequest, MissingParameter, UnsupportedParameter
from gateway.wire.openai_chat_request import Credential, Number, Text, validate
from gateway.wire.responses.custom import CUSTOM_TOOLS, chat_tool, has_grammar
from gateway.wire.responses.items import left_out, messages, parts_left_out
from gateway.wire.responses.sealed import ASKED

_LOOSE = ConfigDict(extra="allow", strict=True)


@with_config(_LOOSE)
class Item(TypedDict, total=False):
    """An item of the input: of any kind, but a kind is a word."""

    type: str | None


@with_config(_LOOSE)
class Format(TypedDict, total=False):
    """How the text is to be: `format` is `{type, …}`."""

    format: dict[str, Any] | None


@with_config(_LOOSE)
class ToolChoice(TypedDict, total=False):
    """One tool, or `tools` that are allowed."""

    tools: list[dict[str, Any]] | None


@with_config(_LOOSE)
class ResponsesRequest(TypedDict, total=False):
    """A response that is wanted: the fields that are checked. Others pass."""

    model: Text | None
    input: str | list[Item] | None
    messages: list[dict[str, Any]] | None
    instructions: str | None
    stream: bool | None
    store: bool | None
    background: bool | None
    previous_response_id: str | None
    temperature: Number | None
    top_p: Number | None
    presence_penalty: Number | None
    frequency_penalty: Number | None
    top_logprobs: int | None
    max_output_tokens: int | None
    max_tokens: int | None
    tools: list[dict[str, Any]] | None
    tool_choice: str | ToolChoice | None
    parallel_tool_calls: bool | None
    include: list[str] | None
    text: Format | None
    reasoning: dict[str, Any] | None
    metadata: dict[str, str] | None
    truncation: str | None
    user: str | None
    safety_identifier: str | None
    api_key: Credential | None
    base_url: str | None
    session_id: str | None


_ADAPTER: TypeAdapter[ResponsesRequest] = TypeAdapter(ResponsesRequest)
_SAME = (
    "model", "stream", "temperature", "top_p", "presence_penalty", "frequency_penalty", "metadata", "user",
    "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "service_tier", "session_id", "api_key",
    "base_url", "tool_mode", "thinking",
)  # fmt: skip
_REFUSED = ("prompt", "conversation")
_CARRIED = frozenset(
    {*_SAME, "input", "messages", "instructions", "max_output_tokens", "max_tokens", "reasoning", "include", "text"}
    | {"tools", "tool_choice", "parallel_tool_calls", "top_logprobs", "stream_options"}
    | {"store", "background", "previous_response_id"}
)
_LOGPROBS = "message.output_text.logprobs"
_INCLUDED = frozenset({_LOGPROBS, ASKED})


def check(body: Mapping[str, Any]) -> None:
    """Raises `InvalidRequest`. `messages`, as chat has them, stand for `input` too."""
    if body.get("input") is None and body.get("messages") is None:
        raise MissingParameter("input")
    validate(_ADAPTER, body)
    said = body["messages"] if body.get("input") is None else body["input"]
    if said == [] and not body.get("previous_response_id"):
        raise InvalidRequest("'input' has no items.", param="input", code="empty_array")
    for name in _REFUSED:
        if body.get(name) is not None:
            raise UnsupportedParameter(f"'{name}' is kept by OpenAI alone.", param=name)
    if body.get("background") and body.get("store") is False:
        raise InvalidRequest("A background response must be stored.", param="background")


def chat(body: Mapping[str, Any]) -> dict[str, Any]:
    """The chat completions body. Raises `InvalidRequest`."""
    said: dict[str, Any] = {name: body[name] for name in _SAME if body.get(name) is not None}
    native = [tool.get("name") for _, tool in tools_of(body) if has_grammar(tool)]
    said["messages"] = [*_instructions(body.get("instructions")), *_input(body, native)]
    most = body.get("max_output_tokens") or body.get("max_tokens")
    if most is not None:
        said["max_completion_tokens"] = most
    if effort := (body.get("reasoning") or {}).get("effort"):
        said["reasoning_effort"] = effort
    if _LOGPROBS in (body.get("include") or ()):
        said |= {"logprobs": True, "top_logprobs": body.get("top_logprobs") or 0}
    return said | _text(body.get("text") or {}) | _tools(body, native)


def ignored(body: Mapping[str, Any]) -> tuple[str, ...]:
    """What `chat` leaves out: fields, tools and items that mean something to OpenAI alone, or to nobody."""
    names = {name for name, value in body.items() if value is not None and name not in _CARRIED}
    if body.get("top_logprobs") and _LOGPROBS not in (body.get("include") or ()):
        names.add("top_logprobs")  # how many of what nobody asked to be told
    names |= {f"include.{name}" for name in body.get("include") or () if name not in _INCLUDED}
    tools = {id(tool) for _, tool in tools_of(body)}
    for tool in body.get("tools") or ():
        if tool.get("type") != "namespace" and id(tool) not in tools:
            names.add(f"tools[].{tool.get('type')}")
    given = body.get("input")
    items = given if isinstance(given, list) else ()
    names |= {f"input[].{kind}" for item in items if (kind := left_out(item)) is not None}
    names |= {f"input[].content[].{kind}" for item in items for kind in parts_left_out(item)}
    return tuple(sorted(names))


def unfit(body: Mapping[str, Any], traits: Set[str]) -> tuple[str, ...]:
    """What a provider with these traits has no word for."""
    grammars = CUSTOM_TOOLS not in traits and any(has_grammar(tool) for _, tool in tools_of(body))
    return ("tools[].format",) if grammars else ()


def tools_of(body: Mapping[str, Any]) -> Iterator[tuple[str | None, dict[str, Any]]]:
    """The functions and custom tools on offer, each with the namespace that it stands in."""
    for tool in body.get("tools") or ():
        if tool.get("type") == "namespace":
            inner = tool.get("tools")
            for each in inner if isinstance(inner, list) else ():
                if isinstance(each, dict) and each.get("type") in ("function", "custom"):
                    yield tool.get("name"), each
        elif tool.get("type") in ("function", "custom"):
            yield None, tool


def _instructions(instructions: str | None) -> list[dict[str, Any]]:
    return [{"role": "system", "content": instructions}] if instructions else []


def _input(body: Mapping[str, Any], native: Collection[Any]) -> list[dict[str, Any]]:
    given = body.get("input")
    if given is None:
        return list(body["messages"])
    return [{"role": "user", "content": given}] if isinstance(given, str) else messages(given, native)


def _text(text: Mapping[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {"verbosity": text["verbosity"]} if text.get("verbosity") else {}
    form = text.get("format") or {}
    if form.get("type") == "json_schema":
        inner = {name: form[name] for name in ("name", "description", "schema", "strict") if form.get(name) is not None}
        said["response_format"] = {"type": "json_schema", "json_schema": inner}
    elif form.get("type") not in (None, "text"):
        said["response_format"] = form
    return said


def _tools(body: Mapping[str, Any], native: Collection[Any]) -> dict[str, Any]:
    tools = [_tool(tool) for _, tool in tools_of(body)]
    if not tools:
        return {}
    said: dict[str, Any] = {"tools": tools}
    choice = _choice(body.get("tool_choice"), native)
    if choice is not None:
        said["tool_choice"] = choice
    if body.get("parallel_tool_calls") is not None:
        said["parallel_tool_calls"] = body["parallel_tool_calls"]
    return said


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool["type"] == "custom":
        return chat_tool(tool)
    function = {name: tool[name] for name in ("name", "description") if tool.get(name) is not None}
    function["parameters"] = tool.get("parameters") or {"type": "object", "properties": {}}
    if tool.get("strict") is not None:
        function["strict"] = tool["strict"]
    return {"type": "function", "function": function}


def _choice(choice: Any, native: Collection[Any]) -> Any:
    """A choice of tools that are not on offer here says nothing."""
    if isinstance(choice, str) or choice is None:
        return choice
    if choice.get("type") == "custom" and choice.get("name") in native:
        return {"type": "custom", "custom": {"name": choice["name"]}}
    if choice.get("type") in ("function", "custom"):
        return {"type": "function", "function": {"name": choice.get("name")}}
    if choice.get("type") == "allowed_tools":
        given = [tool for tool in choice.get("tools") or () if tool.get("type") in ("function", "custom")]
        allowed = [_choice(tool, native) for tool in given]
        return {"type": "allowed_tools", "allowed_tools": {"mode": choice.get("mode") or "auto", "tools": allowed}}
    return None
