"""Reading an OpenAI chat completions body for a family that has words of its own.

Nothing is dropped silently: a field is carried by the family, or it is advisory or at its default and gets named in
`Fields.ignored`, or it is refused. The request's reference: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.wire.values import Unsupported, WireError

EXTENSIONS = frozenset(
    {
        "agent_format",
        "api_key",
        "base_url",
        "continuation",
        "deadline_s",
        "execute_tools",
        "fallback",
        "hedge",
        "max_cost_usd",
        "retries",
        "session_id",
        "tool_mode",
        "unload_after",
    }
)
"""The gateway's own fields; no upstream gets them."""

GATEWAY_FIELDS = EXTENSIONS | {"messages", "model", "stream", "stream_options"}
"""What the gateway itself answers for: said in the family's way, obeyed by the renderer, or our own extension."""

ADVISORY = frozenset(
    {
        "metadata",  # labels for OpenAI's store
        "prediction",  # makes the same answer faster
        "prompt_cache_key",  # routing hint
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",  # abuse detection
        "seed",  # "best effort" in OpenAI's own words
        "store",
        "user",
    }
)
"""Fields that leave the answer what it is."""

DEFAULTS: Mapping[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "parallel_tool_calls": (True,),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "tool_choice": ("auto",),
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": ("medium",),
}
"""Values that say what would happen anyway."""


class Fields:
    """The fields of one body: each is taken by the family, or settled as ignored or refused. Null counts as absent."""

    def __init__(self, family: str, body: Mapping[str, Any]) -> None:
        self._family = family
        self._left = {k: v for k, v in body.items() if v is not None and k not in GATEWAY_FIELDS}
        self._ignored: dict[str, None] = {}

    @property
    def ignored(self) -> tuple[str, ...]:
        """The names of what was left out, in the order of the body, each once."""
        return tuple(self._ignored)

    def take(self, name: str) -> Any:
        """The field's value, now carried by the family; None where the client gave none."""
        return self._left.pop(name, None)

    def take_object(self, name: str) -> dict[str, Any] | None:
        """The same, for a field that must be an object. Raises `WireError`."""
        value = self.take(name)
        if value is not None and not isinstance(value, dict):
            raise WireError(f"{name} must be an object.")
        return value

    def take_list(self, name: str) -> list[Any] | None:
        """The same, for a field that must be an array. Raises `WireError`."""
        value = self.take(name)
        if value is not None and not isinstance(value, list):
            raise WireError(f"{name} must be an array.")
        return value

    def peek(self, name: str) -> Any:
        """The field's value, not yet carried."""
        return self._left.get(name)

    def take_all(self, names: Mapping[str, str]) -> dict[str, Any]:
        """The fields of `names` that were given, under the family's names for them."""
        return {theirs: self._left.pop(ours) for ours, theirs in names.items() if ours in self._left}

    def ignore(self, name: str) -> None:
        """Say that something advisory is left out."""
        self._ignored[name] = None

    def ignore_detail(self, part: Mapping[str, Any]) -> None:
        """Say so where an image's `detail` is left out, which is for OpenAI's models; `auto` leaves it to the model."""
        image = part.get("image_url")
        if isinstance(image, dict) and image.get("detail") not in (None, "auto"):
            self.ignore("messages[].image_url.detail")

    def settle(self) -> None:
        """Ignore what is advisory or at its default among the rest. Raises `Unsupported` for anything else."""
        for name, value in self._left.items():
            if name not in ADVISORY and value not in DEFAULTS.get(name, ()):
                raise self.unsupported(name)
            self.ignore(name)
        self._left.clear()

    def unsupported(self, param: str, why: str = "", kind: type[Unsupported] = Unsupported) -> Unsupported:
        """The refusal of a field that would change the answer."""
        return kind(param, f"The {self._family} API cannot carry '{param}'" + (f": {why}." if why else "."))


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the body; `where` is its JSON path."""

    where: str
    role: str
    value: Mapping[str, Any]

    def get(self, name: str) -> Any:
        """A field of it, None where it is absent."""
        return self.value.get(name)

    def parts(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Its content as `(JSON path, part)`; plain text is one text part, a refusal is text, no content is no part."""
        content = self.get("content")
        if content is None:
            return []
        if isinstance(content, str):
            return [(f"{self.where}.content", {"type": "text", "text": content})]
        if not isinstance(content, list):
            raise WireError(f"{self.where}.content must be a string or an array of parts.")
        return [_part(f"{self.where}.content[{i}]", part) for i, part in enumerate(content)]

    def unknown(self, *known: str) -> list[str]:
        """The fields that say something (not null, not empty) beyond these and `role` and `content`."""
        return [
            k for k, v in self.value.items() if v not in (None, [], {}, "") and k not in {"role", "content", *known}
        ]


def _part(where: str, part: Any) -> tuple[str, Mapping[str, Any]]:
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise WireError(f"{where} must be an object with a type.")
    if part["type"] == "refusal":
        part = {"type": "text", "text": part.get("refusal")}
    if part["type"] == "text" and not isinstance(part.get("text"), str):
        raise WireError(f"{where}.text must be a string.")
    return where, part


def messages(body: Mapping[str, Any]) -> Iterator[Message]:
    """The body's messages in order. Raises `WireError` where one is not a message."""
    given = body.get("messages")
    if not isinstance(given, list) or not given:
        raise WireError("messages must be a non-empty array.")
    for i, value in enumerate(given):
        if not isinstance(value, dict) or not isinstance(value.get("role"), str):
            raise WireError(f"messages[{i}] must be an object with a role.")
        yield Message(f"messages[{i}]", value["role"], value)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """An assistant's call in the history. `arguments` is the JSON object as the client wrote it, digit for digit."""

    id: str
    name: str
    arguments: orjson.Fragment


def tool_calls(message: Message) -> Iterator[ToolCall]:
    """The function calls of an assistant's message. Raises `WireError`, `Unsupported` for other kinds."""
    if message.get("function_call"):
        raise Unsupported(f"{message.where}.function_call", "function_call is superseded: use tool_calls.")
    for i, call in enumerate(message.get("tool_calls") or ()):
        where = f"{message.where}.tool_calls[{i}]"
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise Unsupported(where, f"{where} is not a function call, the only kind of call this provider knows.")
        name, call_id = function.get("name"), call.get("id")
        if not isinstance(name, str) or not isinstance(call_id, str):
            raise WireError(f"{where} needs an id and a function name.")
        yield ToolCall(call_id, name, arguments_object(function.get("arguments"), where))


def arguments_given(text: str, finish_reason: str | None) -> dict[str, Any] | None:
    """What a model gave as a call's arguments, as the object that they must be; what is none is kept as a text. None
    where the answer's limit cut them off: whatever stood for them would be an argument that no model gave."""
    try:
        value = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        value = text
    if finish_reason == "length" and (not text or not isinstance(value, dict)):
        return None
    return value if isinstance(value, dict) else {"input": value}


def arguments_object(text: Any, where: str) -> orjson.Fragment:
    """A call's arguments text as the JSON object that it says; empty text is `{}`. Raises `WireError`."""
    if text in (None, ""):
        return orjson.Fragment(b"{}")
    try:
        known = isinstance(text, str) and isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        known = False
    if not known:
        raise WireError(f"{where}.function.arguments must be the text of a JSON object.")
    return orjson.Fragment(text)


def data_url(url: str, where: str) -> tuple[str, str] | None:
    """`(media type, base64 text)` of a `data:` URL (RFC 2397), None for any other URL. Raises `WireError`."""
    if url[:5].lower() != "data:":
        return None
    head, comma, data = url[5:].partition(",")
    media_type, *parameters = head.split(";")
    if not comma or "base64" not in (p.strip().lower() for p in parameters):
        raise WireError(f"{where} must be a base64 data URL: data:<media type>;base64,<data>.")
    return media_type.strip().lower(), data


def image_url(part: Mapping[str, Any], where: str) -> str:
    """The URL of an `image_url` part, which some clients write without the object around it. Raises `WireError`."""
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    if not isinstance(url, str) or not url:
        raise WireError(f"{where}.image_url.url must be a string.")
    return url


def json_schema(response_format: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a `response_format` of type `json_schema`. Raises `WireError`."""
    wrapper = response_format.get("json_schema")
    schema = wrapper.get("schema") if isinstance(wrapper, dict) else None
    if not isinstance(schema, dict):
        raise WireError("response_format.json_schema.schema must be an object.")
    return schema
