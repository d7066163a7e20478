"""A request for one JSON object and nothing around it: `{model, prompt | messages, response_model}` in, the object out.

`response_model` is a JSON Schema (https://json-schema.org/draft/2020-12), such as pydantic's `model_json_schema()`, or
a map of field names to the schemas of their values: `{"name": {"type": "string"}}`. Of such a map every field must be
there, and no other. A field that is an object, or a list of objects, may be such a map again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import orjson
from jsonschema import Draft202012Validator
from pydantic import ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from gateway.errors import InvalidRequest, UnsupportedParameter, openai_error_body
from gateway.wire.dialect import Dialect, Form, Renderer
from gateway.wire.openai_chat_request import Number, Text, validate
from gateway.wire.openai_chat_request import check as check_chat
from gateway.wire.structure import WHERE, only_json, wanted
from gateway.wire.values import Fold, Piece, WireError

REFUSED = ("response_format", "tools", "tool_choice", "functions", "function_call", "stream_options")
"""What would make the answer another than one object."""
SAYS = frozenset({"type", "properties", "$ref", "anyOf", "oneOf", "allOf", "enum", "const"})
"""The words of a JSON Schema of which one must be there: one without any allows everything."""
KEYWORDS = frozenset(Draft202012Validator.VALIDATORS) | {
    "$anchor", "$comment", "$defs", "$dynamicAnchor", "$id", "$schema", "$vocabulary", "contentEncoding",
    "contentMediaType", "contentSchema", "default", "definitions", "deprecated", "description", "else", "examples",
    "maxContains", "minContains", "readOnly", "then", "title", "writeOnly",
}  # fmt: skip
"""All words of a JSON Schema: a value without any of them is a map of fields again."""
NAME = "response_model"


@with_config(ConfigDict(extra="allow", strict=True))
class StructuredRequest(TypedDict, total=False):
    """An object that is wanted: a prompt or messages, and what it must be. Any field of chat may be there too."""

    model: Text | None
    prompt: str | None
    messages: list[dict[str, Any]] | None
    response_model: Annotated[dict[str, Any], Field(min_length=1)]
    stream: bool | None
    temperature: Number | None
    max_tokens: int | None


_ADAPTER: TypeAdapter[StructuredRequest] = TypeAdapter(StructuredRequest)


class StructuredDialect(Dialect):
    """Bare objects, checked against their schema whatever the provider promises."""

    wire = "structured"
    version = 1
    checked = True

    def check(self, body: Mapping[str, Any]) -> None:
        validate(_ADAPTER, body, NAME)
        if (body.get("prompt") is None) == (body.get("messages") is None):
            raise InvalidRequest("Send either 'prompt' or 'messages'.", param="prompt")
        if body.get("stream"):
            raise UnsupportedParameter("A structured answer comes whole: send no 'stream'.", param="stream")
        for name in REFUSED:
            if body.get(name) not in (None, []):
                raise UnsupportedParameter(f"This endpoint takes no '{name}'.", param=name)
        if body.get("n") not in (None, 1):
            raise UnsupportedParameter("This endpoint gives one object: 'n' must be 1.", param="n")
        said = self.chat(dict(body))
        check_chat(said)
        try:
            wanted(said)
        except WireError as error:
            message = f"{str(error).rstrip('.')}."
            raise InvalidRequest(message.replace(WHERE, NAME), param=NAME) from error

    def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        said = {name: value for name, value in body.items() if name not in ("prompt", NAME)}
        if body.get("messages") is None:
            said["messages"] = [{"role": "user", "content": body["prompt"]}]
        wish = {"name": NAME, "schema": schema_of(body[NAME])}
        return said | {"response_format": {"type": "json_schema", "json_schema": wish}}

    def renderer(self, form: Form) -> Renderer:
        return BareObject()

    def error_body(self, status: int, error: Mapping[str, Any]) -> bytes:
        return orjson.dumps(openai_error_body(error))


def schema_of(model: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON Schema that a `response_model` means. Raises `InvalidRequest` for one that says nothing."""
    if _is_field_map(model):
        try:
            return _object_of(model)
        except RecursionError as error:
            raise InvalidRequest(f"'{NAME}' is nested too deeply.", param=NAME) from error
    if not SAYS & model.keys():
        raise InvalidRequest(
            f"'{NAME}' must be a JSON Schema, or a map of field names to the JSON Schemas of their values.", param=NAME
        )
    return dict(model)


def _is_field_map(model: Mapping[str, Any]) -> bool:
    """Each of its values is a schema, and it is none itself. Of what could be either, such as `{"properties": {…}}`, a
    schema is meant where what stands below is a map of schemas again."""
    if any(name.startswith("$") or not isinstance(value, dict) for name, value in model.items()):
        return False
    properties = model.get("properties")
    return not properties or not all(isinstance(value, dict) for value in properties.values())


def _object_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    properties = {name: _field(value) for name, value in fields.items()}
    return {"type": "object", "properties": properties, "required": list(fields), "additionalProperties": False}


def _field(value: Any) -> Any:
    """A field's schema. To JSON Schema a map within a map would say nothing: words that it does not know allow all."""
    if not isinstance(value, dict):
        return value
    if value and not KEYWORDS & value.keys() and all(isinstance(each, dict) for each in value.values()):
        return _object_of(value)
    return {**value, "items": _field(value["items"])} if "items" in value else value


class BareObject:
    """Renders the object that the model wrote, digit for digit."""

    def pieces(self, pieces: Sequence[Piece]) -> bytes:
        """Nothing: a body is released whole."""
        return b""

    def completed(self, fold: Fold) -> bytes:
        """The object. Raises `WireError` where the model called a tool that it was not given."""
        text = "".join(choice["message"]["content"] or "" for choice in fold.choices()[:1])
        if not text:
            raise WireError("The model gave no answer.")
        return only_json(text).encode()

    def failed(self, error: Mapping[str, Any]) -> bytes:
        """The error body."""
        return orjson.dumps(openai_error_body(error))
