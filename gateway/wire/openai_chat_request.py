"""The shape of a chat completions request: what is checked at the door. Everything else is the provider's affair.

Source: CreateChatCompletionRequest in https://github.com/openai/openai-openapi. Unknown fields pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from gateway.errors import InvalidRequest, MissingParameter, UnsupportedParameter

_LOOSE = ConfigDict(extra="allow", strict=True)
Number = Annotated[float, Field(allow_inf_nan=False)]


@with_config(_LOOSE)
class _Part(TypedDict):
    type: str


@with_config(_LOOSE)
class _Message(TypedDict, total=False):
    role: Annotated[str, Field(min_length=1), "required"]
    content: str | list[_Part] | None
    tool_calls: list[dict[str, Any]] | None
    tool_call_id: str | None
    name: str | None


@with_config(_LOOSE)
class _StreamOptions(TypedDict, total=False):
    include_usage: bool | None


Credential = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]*$", max_length=4096)]
"""It becomes a header: printable ASCII, no line breaks."""
Text = Annotated[str, StringConstraints(max_length=1024)]


@with_config(_LOOSE)
class ChatRequest(TypedDict, total=False):
    """A chat: the fields that are checked. Others pass, and are the provider's affair."""

    model: Text | None
    messages: Annotated[list[_Message], Field(min_length=1)]
    stream: bool | None
    stream_options: _StreamOptions | None
    temperature: Number | None
    top_p: Number | None
    n: int | None
    max_tokens: int | None
    max_completion_tokens: int | None
    presence_penalty: Number | None
    frequency_penalty: Number | None
    seed: int | None
    stop: str | list[str] | None
    tools: list[dict[str, Any]] | None
    tool_choice: str | dict[str, Any] | None
    parallel_tool_calls: bool | None
    response_format: dict[str, Any] | None
    logprobs: bool | None
    top_logprobs: int | None
    logit_bias: dict[str, Number] | None
    user: str | None
    safety_identifier: str | None
    metadata: dict[str, str] | None
    reasoning_effort: str | None
    store: bool | None
    service_tier: str | None
    modalities: list[Literal["text", "audio"]] | None
    api_key: Credential | None
    base_url: str | None
    session_id: str | None
    agent_format: str | None
    execute_tools: bool | None
    tool_mode: Literal["native", "prompted", "auto"] | None


_ADAPTER: TypeAdapter[ChatRequest] = TypeAdapter(ChatRequest)


def check(body: Mapping[str, Any]) -> None:
    """Raises `InvalidRequest` naming the first wrong field as `param`; all of them are its `details`."""
    validate(_ADAPTER, body, "messages")
    for index, message in enumerate(body["messages"]):
        if "role" not in message:
            raise MissingParameter(f"messages[{index}].role")
    if body.get("stream_options") and not body.get("stream"):
        raise InvalidRequest("'stream_options' is only allowed when 'stream' is true.", param="stream_options")


def validate(adapter: TypeAdapter[Any], body: Mapping[str, Any], *required: str) -> None:
    """Raises `InvalidRequest` where a required field is missing, or the body is not of the adapter's type: of all that
    is wrong, its `details`, the first."""
    found = [_found(name, "Field required", "missing") for name in required if name not in body]
    try:
        adapter.validate_python(body)
    except ValidationError as error:
        listed = error.errors(include_url=False, include_context=False, include_input=False)
        found += [_found(_path(item["loc"]), item["msg"], item["type"]) for item in listed]
    if found:
        raise _invalid(found)


def refuse_stream(body: Mapping[str, Any]) -> None:
    """Raises `UnsupportedParameter` where an answer that is one body is asked for as a stream."""
    if body.get("stream"):
        raise UnsupportedParameter("The answer of this endpoint cannot be streamed.", param="stream")


def _found(field: str, message: str, kind: str) -> dict[str, str]:
    return {"field": field, "message": message, "type": kind}


def _invalid(found: list[dict[str, str]]) -> InvalidRequest:
    field, kind = found[0]["field"], found[0]["type"]
    if kind == "missing":
        said, code = f"Missing required parameter: '{field}'.", "missing_required_parameter"
    elif kind == "extra_forbidden":
        said, code = f"Unknown parameter: '{field}'.", "unknown_parameter"
    else:
        said = f"Invalid value for '{field}': {found[0]['message']}."
        code = "invalid_type" if kind.endswith("_type") else "invalid_value"
    return InvalidRequest(said, param=field, code=code, details=found)


def _path(location: tuple[int | str, ...]) -> str:
    """`messages[0].content`, without the names that pydantic gives to the members of a union."""
    path = ""
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        elif step.isidentifier() and step not in {"str", "int", "float"}:
            path += f".{step}" if path else step
    return path
