"""A Messages request: what is checked at the door, and the same request as a chat completions body.

What chat has no word for is refused where it changes the answer (server tools, MCP servers), and left out where it does
not (cache marks, the thinking of earlier turns, which only the model that thought it can read).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Annotated, Any

import orjson
from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, with_config
from typing_extensions import TypedDict

from gateway.errors import InvalidRequest, MissingParameter, UnsupportedParameter
from gateway.wire.openai_chat_request import Credential, Number, Text, validate

_LOOSE = ConfigDict(extra="allow", strict=True)

HeaderText = Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]*$", max_length=4096)]


@with_config(_LOOSE)
class _Block(TypedDict):
    type: str


@with_config(_LOOSE)
class _Message(TypedDict):
    role: str
    content: str | list[_Block]


@with_config(_LOOSE)
class _OutputConfig(TypedDict, total=False):
    format: dict[str, Any] | None
    effort: str | None


@with_config(_LOOSE)
class MessagesRequest(TypedDict, total=False):
    """A chat in Anthropic's words: the fields that are checked. Others pass."""

    model: Text | None
    messages: Annotated[list[_Message], Field(min_length=1)]
    max_tokens: Annotated[int, Field(gt=0)]
    system: str | list[_Block] | None
    stream: bool | None
    temperature: Number | None
    top_p: Number | None
    top_k: int | None
    stop_sequences: list[str] | None
    tools: list[dict[str, Any]] | None
    tool_choice: dict[str, Any] | None
    thinking: dict[str, Any] | None
    metadata: dict[str, Any] | None
    output_config: _OutputConfig | None
    service_tier: str | None
    api_key: Credential | None
    base_url: str | None
    session_id: str | None
    anthropic_beta: HeaderText | None
    anthropic_version: HeaderText | None


_ADAPTER: TypeAdapter[MessagesRequest] = TypeAdapter(MessagesRequest)

_SAME = ("model", "stream", "temperature", "top_p", "top_k", "session_id", "api_key", "base_url", "tool_mode")
_CARRIED = frozenset(
    {*_SAME, "messages", "system", "max_tokens", "stop_sequences", "metadata", "tools", "tool_choice", "thinking"}
    | {"output_config", "anthropic_version"}  # whose words they are: it is read here, and said to nobody
)
_ADVICE = ("cache_control", "citations")
_TOOL = frozenset({"type", "name", "description", "input_schema", "strict", *_ADVICE})
_THOUGHTS = ("thinking", "redacted_thinking")
_CHOICES: Mapping[str, Any] = {"auto": "auto", "any": "required", "none": "none"}
_REFUSED = ("mcp_servers", "container")
THINKING_OFF = "thinking_off"
"""The trait of providers that can be told not to think, whatever the model."""
_LEVELS = ((4096, "low"), (16_384, "medium"))
"""Budgets of thought below which a level is meant."""


def check(body: Mapping[str, Any]) -> None:
    """Raises `InvalidRequest`. https://docs.anthropic.com/en/api/messages says which fields must be there."""
    for name in ("messages", "max_tokens"):
        if body.get(name) is None:
            raise MissingParameter(name, f"{name}: Field required")
    validate(_ADAPTER, body)


def user_of(body: Mapping[str, Any]) -> str | None:
    """The end user's opaque id."""
    user = (body.get("metadata") or {}).get("user_id")
    return user if isinstance(user, str) else None


def chat(body: Mapping[str, Any]) -> dict[str, Any]:
    """The chat completions body. Raises `InvalidRequest`, `UnsupportedParameter`."""
    for name in _REFUSED:
        if body.get(name):
            raise UnsupportedParameter(f"Only Anthropic's own models take '{name}'.", param=name)
    said: dict[str, Any] = {name: body[name] for name in _SAME if body.get(name) is not None}
    said["messages"] = [*_system(body.get("system")), *_messages(body["messages"])]
    said["max_completion_tokens"] = body["max_tokens"]
    if body.get("stop_sequences"):
        said["stop"] = body["stop_sequences"]
    if user := user_of(body):
        said["user"] = user
    return said | _tools(body) | _thinking(body.get("thinking")) | _output(body.get("output_config") or {})


def ignored(body: Mapping[str, Any]) -> tuple[str, ...]:
    """What `chat` leaves out: advice to Anthropic's own service, the thinking of earlier turns, and fields that nobody
    knows, of tools too."""
    names = {name for name, value in body.items() if value is not None and name not in _CARRIED}
    for tool in body.get("tools") or ():
        names |= {f"tools[].{name}" for name, value in tool.items() if value and name not in _TOOL}
    for place in ("system", "tools"):
        names |= _marks(place, body.get(place))
    for message in body["messages"]:
        names |= _marks("messages", message.get("content"))
    return tuple(sorted(names))


def fitted(said: dict[str, Any], traits: Set[str]) -> dict[str, Any]:
    """What `chat` gave, for a provider with these traits. Many refuse any word about thinking for models that do none:
    such a provider is not told to let it be."""
    if said.get("thinking") != "off" or THINKING_OFF in traits:
        return said
    return {name: value for name, value in said.items() if name != "thinking"}


def unfit(body: Mapping[str, Any], traits: Set[str]) -> tuple[str, ...]:
    """What `fitted` leaves out."""
    off = _thinking(body.get("thinking")).get("thinking") == "off"
    return ("thinking",) if off and THINKING_OFF not in traits else ()


def _marks(place: str, blocks: Any) -> set[str]:
    """What blocks say to Anthropic's own models alone."""
    found: set[str] = set()
    for block in blocks if isinstance(blocks, list) else ():
        if isinstance(block, dict):
            found |= {f"{place}[].{name}" for name in _ADVICE if block.get(name)}
            found |= {f"{place}[].{block['type']}"} if block.get("type") in _THOUGHTS else set()
            found |= _marks(place, block.get("content"))
    return found


def _system(system: Any) -> Iterator[dict[str, Any]]:
    text = system if isinstance(system, str) else "\n\n".join(str(b.get("text") or "") for b in system or ())
    if text:
        yield {"role": "system", "content": text}


def _messages(messages: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for index, message in enumerate(messages):
        where, role, content = f"messages.{index}", message["role"], message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if role == "assistant":
            yield _assistant(where, blocks)
        elif role == "user":
            yield from _user(where, blocks)
        elif role == "system":
            yield from _system(content)
        else:
            raise InvalidRequest(f"{where}.role: must be user or assistant", param=f"{where}.role")


def _assistant(where: str, blocks: list[dict[str, Any]]) -> dict[str, Any]:
    texts, calls = [], []
    for index, block in enumerate(blocks):
        match block["type"]:
            case "text":
                texts.append(str(block.get("text") or ""))
            case "tool_use":
                calls.append(_call(f"{where}.content.{index}", block))
            case kind if kind in _THOUGHTS:
                continue
            case kind:
                raise UnsupportedParameter(
                    f"Only Anthropic's own models read {kind!r} blocks.", param=f"{where}.content.{index}"
                )
    said: dict[str, Any] = {"role": "assistant", "content": "".join(texts) or None}
    return said | {"tool_calls": calls} if calls else {**said, "content": said["content"] or ""}


def _call(where: str, block: Mapping[str, Any]) -> dict[str, Any]:
    for name in ("id", "name"):
        if not isinstance(block.get(name), str):
            raise InvalidRequest(f"{where}.{name}: Field required", param=f"{where}.{name}")
    function = {"name": block.get("name"), "arguments": orjson.dumps(block.get("input") or {}).decode()}
    return {"id": block.get("id"), "type": "function", "function": function}


def _user(where: str, blocks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Results of tools are messages of their own, and come first: they answer the turn before. Pictures in a result
    follow in the user's message, since a tool's message has text only."""
    parts: list[dict[str, Any]] = []
    for index, block in enumerate(blocks):
        at = f"{where}.content.{index}"
        if block["type"] == "tool_result":
            if not isinstance(block.get("tool_use_id"), str):
                raise InvalidRequest(f"{at}.tool_use_id: Field required", param=f"{at}.tool_use_id")
            text, more = _result(at, block.get("content"))
            if block.get("is_error") and not text.startswith("Error"):
                text = f"Error: {text}"  # chat has no flag for it
            yield {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": text}
            parts += more
        else:
            parts.append(_part(at, block))
    if len(parts) == 1 and parts[0]["type"] == "text":
        yield {"role": "user", "content": parts[0]["text"]}
    elif parts:
        yield {"role": "user", "content": parts}


def _result(where: str, content: Any) -> tuple[str, list[dict[str, Any]]]:
    if isinstance(content, str) or content is None:
        return content or "", []
    parts = [_part(f"{where}.content.{index}", block) for index, block in enumerate(_listed(where, content))]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    return "\n".join(texts), [part for part in parts if part["type"] != "text"]


def _listed(where: str, content: Any) -> list[Any]:
    if not isinstance(content, list):
        raise InvalidRequest(f"{where}.content: Input should be a valid list", param=f"{where}.content")
    return content


def _part(where: str, block: Any) -> dict[str, Any]:
    kind = block.get("type") if isinstance(block, dict) else None
    if kind == "text":
        return {"type": "text", "text": str(block.get("text") or "")}
    if kind == "image":
        return {"type": "image_url", "image_url": {"url": _url(where, block.get("source"))}}
    if kind == "document":
        return _document(where, block)
    if kind == "search_result":
        items = _listed(where, block.get("content") or [])
        texts = [str(item.get("text") or "") for item in items if isinstance(item, dict)]
        return {"type": "text", "text": "\n".join([str(block.get("title") or ""), str(block.get("source")), *texts])}
    raise UnsupportedParameter(f"Only Anthropic's own models read {kind!r} blocks.", param=where)


def _url(where: str, source: Any) -> str:
    kind = source.get("type") if isinstance(source, dict) else None
    if kind == "base64":
        return f"data:{source.get('media_type')};base64,{source.get('data')}"
    if kind == "url":
        return str(source.get("url"))
    raise UnsupportedParameter(f"A source of type {kind!r} is known to Anthropic only.", param=f"{where}.source")


def _document(where: str, block: Mapping[str, Any]) -> dict[str, Any]:
    source, title = block.get("source") or {}, block.get("title")
    kind = source.get("type") if isinstance(source, dict) else None
    if kind == "text":
        return {"type": "text", "text": f"{title}\n\n{source.get('data')}" if title else str(source.get("data"))}
    if kind == "content":
        inner = source.get("content")
        return {"type": "text", "text": _result(where, inner)[0]}
    url = _url(where, source)
    held = {"file_data": url} if kind == "base64" else {"file_url": url}
    return {"type": "file", "file": {"filename": title or "document.pdf", **held}}


def _tools(body: Mapping[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if body.get("tools"):
        said["tools"] = [_tool(index, tool) for index, tool in enumerate(body["tools"])]
    choice = body.get("tool_choice") or {}
    kind = choice.get("type")
    if kind == "tool":
        said["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
    elif isinstance(kind, str) and kind in _CHOICES:
        said["tool_choice"] = _CHOICES[kind]
    elif kind is not None:
        raise InvalidRequest(f"tool_choice.type: there is no choice {kind!r}", param="tool_choice")
    if choice.get("disable_parallel_tool_use"):
        said["parallel_tool_calls"] = False
    return said if said.get("tools") else {}


def _tool(index: int, tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool.get("type") not in (None, "custom"):
        raise UnsupportedParameter(f"Only Anthropic runs the tool {tool['type']!r}.", param=f"tools.{index}")
    function = {"name": tool.get("name"), "parameters": tool.get("input_schema") or {"type": "object"}}
    if tool.get("description"):
        function["description"] = tool["description"]
    if tool.get("strict") is not None:
        function["strict"] = tool["strict"]
    return {"type": "function", "function": function}


def _output(config: Mapping[str, Any]) -> dict[str, Any]:
    """`output_config`: https://docs.anthropic.com/en/docs/build-with-claude/structured-outputs"""
    said: dict[str, Any] = {"reasoning_effort": config["effort"]} if config.get("effort") else {}
    form = config.get("format") or {}
    if form.get("type") == "json_schema":
        wanted = {"name": "answer", "schema": form.get("schema")}
        said["response_format"] = {"type": "json_schema", "json_schema": wanted}
    elif form:
        raise UnsupportedParameter(f"There is no format {form.get('type')!r}.", param="output_config.format")
    return said


def _thinking(thinking: Any) -> dict[str, Any]:
    """A budget as the level that it comes to; where thinking is the model's own choice, nothing is said."""
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    if kind == "disabled":
        return {"thinking": "off"}
    if kind != "enabled":
        return {}
    budget = thinking.get("budget_tokens")
    if not isinstance(budget, int):
        return {"thinking": "on"}
    return {"thinking": next((level for most, level in _LEVELS if budget < most), "high")}
