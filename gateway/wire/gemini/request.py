"""A generateContent request: what is checked at the door, and the same request as a chat completions body.

Google takes the names of fields in camelCase and in snake_case, numbers as strings, and one object where a list is
meant: so does this. A field that nothing here stands for is refused, as it is by Google; one that is advice to Google's
own service, or that says what its clients say unasked, is left out and named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Required

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, with_config
from pydantic.alias_generators import to_camel
from typing_extensions import TypedDict

from gateway.errors import InvalidRequest, MissingParameter, UnsupportedParameter
from gateway.wire.chat_request import EXTENSIONS
from gateway.wire.gemini.contents import marks, messages
from gateway.wire.gemini.schema import json_schema
from gateway.wire.openai_chat_request import Credential, Number, Text, validate
from gateway.wire.tool_turn import signed_in_open_turn

_GOOGLES = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)
_Many = BeforeValidator(lambda given: [given] if isinstance(given, dict) else given)


@with_config(_GOOGLES)
class _Blob(TypedDict, total=False):
    mime_type: Required[str]
    data: Required[str]
    display_name: str | None


@with_config(_GOOGLES)
class _FileData(TypedDict, total=False):
    mime_type: str | None
    file_uri: Required[str]
    display_name: str | None


@with_config(_GOOGLES)
class _FunctionCall(TypedDict, total=False):
    id: str | None
    name: Required[str]
    args: dict[str, Any] | None


@with_config(_GOOGLES)
class _ResponsePart(TypedDict, total=False):
    inline_data: _Blob | None
    file_data: _FileData | None


@with_config(_GOOGLES)
class _FunctionResponse(TypedDict, total=False):
    id: str | None
    name: Required[str]
    response: dict[str, Any] | None
    parts: Annotated[list[_ResponsePart], _Many] | None


@with_config(_GOOGLES)
class _Part(TypedDict, total=False):
    text: str | None
    thought: bool | None
    thought_signature: str | None
    inline_data: _Blob | None
    file_data: _FileData | None
    function_call: _FunctionCall | None
    function_response: _FunctionResponse | None


@with_config(_GOOGLES)
class _Content(TypedDict, total=False):
    role: str | None
    parts: Annotated[list[_Part], _Many] | None


@with_config(_GOOGLES)
class _Declaration(TypedDict, total=False):
    name: Required[str]
    description: str | None
    parameters: dict[str, Any] | None
    parameters_json_schema: dict[str, Any] | None
    response: dict[str, Any] | None
    response_json_schema: Any
    behavior: str | None


@with_config(_GOOGLES)
class _Tool(TypedDict, total=False):
    function_declarations: Annotated[list[_Declaration], _Many] | None


@with_config(_GOOGLES)
class _CallingConfig(TypedDict, total=False):
    mode: str | None
    allowed_function_names: list[str] | None


@with_config(_GOOGLES)
class _ToolConfig(TypedDict, total=False):
    function_calling_config: _CallingConfig | None


@with_config(_GOOGLES)
class _ThinkingConfig(TypedDict, total=False):
    include_thoughts: bool | None
    thinking_budget: int | None
    thinking_level: str | None


@with_config(_GOOGLES)
class _GenerationConfig(TypedDict, total=False):
    temperature: Number | None
    top_p: Number | None
    top_k: Number | None
    max_output_tokens: int | None
    stop_sequences: list[str] | None
    candidate_count: int | None
    seed: int | None
    presence_penalty: Number | None
    frequency_penalty: Number | None
    response_mime_type: str | None
    response_schema: dict[str, Any] | None
    response_json_schema: dict[str, Any] | None
    response_modalities: list[str] | None
    media_resolution: str | None
    thinking_config: _ThinkingConfig | None


def _ours(name: str) -> Any:
    """A field of the gateway's own, which has one spelling."""
    return Field(alias=name)


@with_config(_GOOGLES)
class GenerateContentRequest(TypedDict, total=False):
    """A chat in Google's words."""

    model: Text | None
    contents: Annotated[list[_Content], _Many, Field(min_length=1)]
    system_instruction: _Content | None
    tools: Annotated[list[_Tool], _Many] | None
    tool_config: _ToolConfig | None
    generation_config: _GenerationConfig | None
    safety_settings: Any
    labels: dict[str, str] | None
    service_tier: str | None
    store: bool | None
    session_id: Annotated[str | None, _ours("session_id")]
    api_key: Annotated[Credential | None, _ours("api_key")]
    base_url: Annotated[str | None, _ours("base_url")]
    tool_mode: Annotated[str | None, _ours("tool_mode")]


_ADAPTER: TypeAdapter[GenerateContentRequest] = TypeAdapter(GenerateContentRequest)

_CHECKED_HERE = frozenset({"session_id", "api_key", "base_url", "tool_mode"})
_EXTENSIONS = EXTENSIONS - {"agent_format", "execute_tools"}
"""The gateway's fields that mean something here: the other two are of chat's answers."""
_ADVICE = ("safety_settings", "labels", "service_tier", "store")
_SAME = ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty")
_USUAL: Mapping[str, tuple[float, ...]] = {"temperature": (1,), "top_p": (0.95,), "top_k": (40, 64)}
"""What Google's models take unasked and its clients say all the same; OpenAI's refuse to be told of a `top_k`, and
Anthropic's of a `top_p` beside a `temperature`, the newer ones of any."""
_LEVELS = ((1, "off"), (4096, "low"), (16_384, "medium"))
"""Budgets of thought below which a level is meant."""
_MODES: Mapping[str, str] = {"AUTO": "auto", "VALIDATED": "auto", "ANY": "required", "NONE": "none"}


def check(body: Mapping[str, Any]) -> None:
    """Raises `InvalidRequest`, `UnsupportedParameter` for a field that nothing here stands for."""
    if not body.get("contents"):
        raise MissingParameter("contents", "contents must not be empty.")
    try:
        validate(_ADAPTER, _googles(body))
    except InvalidRequest as error:
        if error.details[0]["type"] != "extra_forbidden":
            raise
        raise UnsupportedParameter(
            f"There is no '{error.param}', or no way to say it to models that are not Google's.", param=error.param
        ) from None


def read(body: Mapping[str, Any]) -> GenerateContentRequest:
    """A request that was checked, under its names in snake_case, without the gateway's own fields."""
    return _ADAPTER.validate_python(_googles(body))


def extensions(body: Mapping[str, Any]) -> dict[str, Any]:
    """The gateway's own fields."""
    return {name: body[name] for name in sorted(_EXTENSIONS) if body.get(name) is not None}


def chat(request: GenerateContentRequest) -> dict[str, Any]:
    """The same as chat says it. Raises `InvalidRequest`, `UnsupportedParameter`."""
    said = signed_in_open_turn([*messages(request.get("system_instruction"), request["contents"])])
    return {"messages": said, **_generation(request.get("generation_config") or {}), **_tools(request)}


def left_out(request: GenerateContentRequest) -> Iterator[str]:
    """The names of what `chat` leaves out."""
    config = request.get("generation_config") or {}
    yield from (to_camel(name) for name in _ADVICE if request.get(name))
    yield from sorted(marks(request["contents"]))
    if config.get("media_resolution"):
        yield "generationConfig.mediaResolution"
    yield from (f"generationConfig.{to_camel(name)}" for name, usual in _USUAL.items() if config.get(name) in usual)


def wants_thoughts(request: GenerateContentRequest) -> bool:
    """Whether the client wants to see what the model thought."""
    config = request.get("generation_config") or {}
    return bool((config.get("thinking_config") or {}).get("include_thoughts"))


def _googles(body: Mapping[str, Any]) -> dict[str, Any]:
    """Without the gateway's fields that are checked elsewhere."""
    return {name: value for name, value in body.items() if name not in _EXTENSIONS - _CHECKED_HERE}


def _generation(config: _GenerationConfig) -> dict[str, Any]:
    """`generationConfig`: https://ai.google.dev/api/generate-content#v1beta.GenerationConfig"""
    if any(kind.upper() != "TEXT" for kind in config.get("response_modalities") or ()):
        raise UnsupportedParameter("Answers are text.", param="generationConfig.responseModalities")
    said: dict[str, Any] = {name: config.get(name) for name in _SAME}
    said |= {
        "max_completion_tokens": config.get("max_output_tokens"),
        "stop": config.get("stop_sequences") or None,
        "n": config.get("candidate_count"),
        "thinking": _thinking(config.get("thinking_config") or {}),
        "response_format": _format(config),
    }
    top_k = config.get("top_k")
    said["top_k"] = None if top_k is None else int(top_k)
    return {name: value for name, value in said.items() if value is not None and value not in _USUAL.get(name, ())}


def _format(config: _GenerationConfig) -> dict[str, Any] | None:
    kind = (config.get("response_mime_type") or "text/plain").lower()
    if kind == "text/plain":
        return None
    if kind != "application/json":
        raise UnsupportedParameter(f"Answers in {kind[:80]!r} are not made.", param="generationConfig.responseMimeType")
    schema = config.get("response_json_schema")
    if schema is None and config.get("response_schema") is not None:
        schema = json_schema(config.get("response_schema"), "generationConfig.responseSchema")
    if schema is None:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def _thinking(config: _ThinkingConfig) -> str | None:
    """The level, or that which a budget comes to; a budget below 0 leaves it to the model."""
    level, budget = config.get("thinking_level"), config.get("thinking_budget")
    if level and not level.upper().endswith("UNSPECIFIED"):
        return level.lower()
    if budget is None or budget < 0:
        return None
    return next((level for most, level in _LEVELS if budget < most), "high")


def _tools(request: GenerateContentRequest) -> dict[str, Any]:
    declared = [each for tool in request.get("tools") or () for each in tool.get("function_declarations") or ()]
    calling = (request.get("tool_config") or {}).get("function_calling_config") or {}
    mode = (calling.get("mode") or "AUTO").upper()
    choice = _MODES.get("AUTO" if mode == "MODE_UNSPECIFIED" else mode)
    if choice is None:
        raise InvalidRequest(f"There is no mode {mode[:80]!r}.", param="toolConfig.functionCallingConfig.mode")
    if allowed := calling.get("allowed_function_names"):
        declared = [each for each in declared if each["name"] in allowed]
    if not declared:
        return {}
    said: dict[str, Any] = {"tools": [_tool(f"tools[{index}]", each) for index, each in enumerate(declared)]}
    return said if choice == "auto" else {**said, "tool_choice": choice}


def _tool(where: str, declared: _Declaration) -> dict[str, Any]:
    parameters = declared.get("parameters_json_schema")
    if parameters is None:
        given = declared.get("parameters")
        parameters = {"type": "object"} if given is None else json_schema(given, f"{where}.parameters")
    function: dict[str, Any] = {"name": declared["name"], "parameters": parameters}
    if declared.get("description"):
        function["description"] = declared.get("description")
    return {"type": "function", "function": function}
