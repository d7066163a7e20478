"""What a client may say on the WebSocket `/v1/stream`: one JSON object a message, known by its `type`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, with_config
from typing_extensions import TypedDict

from gateway.errors import InvalidRequest
from gateway.wire.openai_chat_request import validate

_STRICT = ConfigDict(extra="forbid", strict=True)

Id = Annotated[str, StringConstraints(min_length=1, max_length=128)]
"""What a client calls a thing that it started: its own word, which stands in every message about it."""


@with_config(_STRICT)
class Generate(TypedDict):
    """Answer a chat completions request. It is streamed unless it says `"stream": false`. With `detach` the generation
    goes on when the socket closes."""

    type: Literal["generate"]
    id: Id
    request: dict[str, Any]
    detach: NotRequired[bool]


@with_config(_STRICT)
class Cancel(TypedDict):
    """End what was started with this id: a generation, a resumption, a subscription."""

    type: Literal["cancel"]
    id: Id


@with_config(_STRICT)
class Resume(TypedDict):
    """Say what came of a chat request after so many bytes of its answer, and what is still to come."""

    type: Literal["resume"]
    id: NotRequired[Id]
    request_id: Id
    after: NotRequired[Annotated[int, Field(ge=0)]]


@with_config(_STRICT)
class Subscribe(TypedDict):
    """Say the log's events as they are recorded; `after` is the `cursor` of the last one that was heard."""

    type: Literal["subscribe"]
    id: NotRequired[Id]
    types: NotRequired[list[str]]
    request_id: NotRequired[str]
    session_id: NotRequired[str]
    content: NotRequired[bool]
    after: NotRequired[str]


KINDS: Mapping[str, TypeAdapter[Any]] = {
    "generate": TypeAdapter(Generate),
    "cancel": TypeAdapter(Cancel),
    "resume": TypeAdapter(Resume),
    "subscribe": TypeAdapter(Subscribe),
}


def check(message: Mapping[str, Any]) -> str:
    """The type of a client's message. Raises `InvalidRequest` for what is no message."""
    kind = message.get("type")
    adapter = KINDS.get(kind) if isinstance(kind, str) else None
    if adapter is None:
        raise InvalidRequest(f"'type' must be one of {', '.join(KINDS)}.", param="type", code="unknown_message")
    validate(adapter, message)
    assert isinstance(kind, str)
    return kind
