"""Google's `Schema`, a part of OpenAPI 3.0's, as JSON Schema: https://ai.google.dev/api/caching#Schema"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic.alias_generators import to_camel

from gateway.errors import InvalidRequest

_RENAMED: Mapping[str, str] = {"defs": "$defs", "ref": "$ref"}
_ORDER = "propertyOrdering"
"""In which order the keys of an object are written: a wish that JSON Schema has no word for."""


def json_schema(schema: Any, where: str) -> dict[str, Any]:
    """The schema, its names in camelCase or snake_case. Raises `InvalidRequest`; `where` is its JSON path."""
    if not isinstance(schema, dict):
        raise InvalidRequest(f"{where} must be a schema object.", param=where)
    said: dict[str, Any] = {}
    for key, given in schema.items():
        name = key if key.startswith("$") else to_camel(key)
        if given is not None and name not in ("nullable", _ORDER):
            read = _READERS.get(name)
            said[_RENAMED.get(name, name)] = read(given, f"{where}.{key}") if read else given
    if said.get("type") == "type_unspecified":
        del said["type"]
    return _or_null(said) if schema.get("nullable") else said


def _or_null(said: dict[str, Any]) -> dict[str, Any]:
    if isinstance(said.get("type"), str):
        said["type"] = [said["type"], "null"]
    if isinstance(said.get("enum"), list):
        said["enum"] = [*said["enum"], None]
    if isinstance(said.get("anyOf"), list):
        said["anyOf"] = [*said["anyOf"], {"type": "null"}]
    return said


def _type(given: Any, where: str) -> Any:
    """`OBJECT` as `object`."""
    return given.lower() if isinstance(given, str) else given


def _count(given: Any, where: str) -> Any:
    """An int64, which protobuf's JSON writes as a string."""
    return int(given) if isinstance(given, str) and given.isascii() and given.isdecimal() else given


def _each(given: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(given, list):
        raise InvalidRequest(f"{where} must be an array of schemas.", param=where)
    return [json_schema(each, f"{where}[{index}]") for index, each in enumerate(given)]


def _named(given: Any, where: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise InvalidRequest(f"{where} must be an object of schemas.", param=where)
    return {name: json_schema(each, f"{where}.{name}") for name, each in given.items()}


def _yes_or_schema(given: Any, where: str) -> Any:
    return given if isinstance(given, bool) else json_schema(given, where)


_READERS: Mapping[str, Callable[[Any, str], Any]] = {
    "type": _type,
    "items": json_schema,
    "anyOf": _each,
    "prefixItems": _each,
    "properties": _named,
    "defs": _named,
    "additionalProperties": _yes_or_schema,
    **dict.fromkeys(("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"), _count),
}
