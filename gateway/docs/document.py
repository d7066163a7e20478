"""/openapi.json: every route of the table, with what pydantic says of its types. https://spec.openapis.org/oas/v3.1.1"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson
from aiohttp import web
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from gateway.docs.headers import AGAIN, ALWAYS, TOLD
from gateway.docs.operations import FORM, JSON, OPERATIONS, TAGS, Operation, Tag
from gateway.release import release

ABOUT = """One server in front of every LLM, with an append-only log at its centre.

Every answer carries `x-request-id`, by which the log knows a request to a model, and `x-abstractcore-position`, how far
the log was. Models are named `provider/model`."""
REFUSALS: Mapping[str, str] = {
    "4XX": "Refused, and why",
    "501": "The provider has no such service, or what it needs is not installed",
    "502": "The provider failed",
    "503": "Not now: try again after Retry-After",
    "504": "The provider took too long",
    "507": "The disk is nearly full",
    "508": "A provider's URL points back at this server",
}
"""The statuses of errors. 500 is not among them: it is a bug."""
_REFERENCE = "#/components/schemas/{model}"
_PARAMETER = "#/components/parameters/{name}"
_HEADER = "#/components/headers/{name}"
_RESPONSE = "#/components/responses/{name}"
_VARIABLE = re.compile(r"\{(\w+)(?::[^}]*)?\}")
_WITHOUT_BODY = frozenset({"GET", "DELETE"})


@dataclass(frozen=True)
class Route:
    """One row of the route table: `name` is the method and the path, whose variables have no patterns."""

    method: str
    path: str
    docstring: str

    @classmethod
    def of(cls, route: web.RouteDef) -> Route:
        """The handler's docstring, or its file's where a function made the handler."""
        handler: Any = route.handler
        text = inspect.cleandoc(handler.__doc__ or sys.modules[handler.__module__].__doc__ or "")
        path = _VARIABLE.sub(r"{\1}", route.path)
        return cls(route.method, path, text.removeprefix(f"{route.method} {path}: "))

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def said(self) -> Operation:
        return OPERATIONS.get(self.name, Operation())

    @property
    def variables(self) -> list[str]:
        return _VARIABLE.findall(self.path)


class Document:
    """The document of these routes, made when it is first asked for."""

    def __init__(self, routes: Iterable[web.AbstractRouteDef]) -> None:
        self.routes = [Route.of(route) for route in routes if isinstance(route, web.RouteDef)]

    @cached_property
    def data(self) -> bytes:
        """As JSON."""
        return orjson.dumps(self.value)

    @cached_property
    def value(self) -> dict[str, Any]:
        """As an object."""
        schemas, components = _described(self.routes)
        paths: dict[str, dict[str, Any]] = {}
        for route in self.routes:
            paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
        return {
            "openapi": "3.1.0",
            "info": {"title": "AbstractCore Server", "version": release(), "description": ABOUT},
            "servers": [{"url": "/"}],
            "security": [{}, {"key": []}],
            "tags": [{"name": tag.name} for tag in TAGS if any(tag is _tag(route) for route in self.routes)],
            "paths": paths,
            "components": {
                "schemas": components,
                "parameters": _headers(kind for route in self.routes for kind in route.said.headers),
                "responses": _refusals({route.said.error for route in self.routes}, schemas),
                "headers": {name: {"description": why, "schema": schema} for name, (why, schema) in TOLD.items()},
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "The server's API key"}},
            },
        }


class Untitled(GenerateJsonSchema):
    """Fields have their names, and need no title made of them."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


Schemas = Mapping[Any, dict[str, Any]]
"""Type -> its JSON Schema, a reference where it is an object."""


def _described(routes: Iterable[Route]) -> tuple[Schemas, dict[str, Any]]:
    """The schemas of all types, and the components that they refer to."""
    operations = [route.said for route in routes]
    kinds = {kind for said in operations for kind in (said.body, said.own, said.answer, said.error) if kind}
    adapters = [(kind, "validation", TypeAdapter(kind)) for kind in sorted(kinds, key=str)]
    found, components = TypeAdapter.json_schemas(adapters, ref_template=_REFERENCE, schema_generator=Untitled)  # type: ignore[arg-type]  # any hashable key serves
    return {kind: schema for (kind, _), schema in found.items()}, components["$defs"]


def _operation(route: Route, schemas: Schemas) -> dict[str, Any]:
    summary, _, rest = route.docstring.partition("\n\n")
    said = route.said
    shown: dict[str, Any] = {
        "tags": [_tag(route).name],
        "summary": summary[:1].upper() + " ".join(summary[1:].split()).rstrip("."),
        "operationId": _identifier(route.name),
        "parameters": [*map(_in_path, route.variables), *_given(said.query, "query"), *_in_headers(said)],
        "responses": _responses(said, schemas),
    }
    if rest:
        shown["description"] = rest
    if route.method not in _WITHOUT_BODY and (said.body or route.name not in OPERATIONS):
        shown["requestBody"] = _body(said, schemas)
    return shown


def _tag(route: Route) -> Tag:
    return next(tag for tag in TAGS if route.path.startswith(tag.prefixes))


def _identifier(name: str) -> str:
    return re.sub(r"\W+", "_", name.lower()).strip("_")


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _given(kind: Any, place: str) -> list[dict[str, Any]]:
    if kind is None:
        return []
    properties = TypeAdapter(kind).json_schema(schema_generator=Untitled)["properties"]
    return [{"name": name, "in": place, "schema": schema} for name, schema in properties.items()]


def _in_headers(said: Operation) -> list[dict[str, Any]]:
    return [{"$ref": _PARAMETER.format(name=name)} for kind in said.headers for name in kind.__annotations__]


def _headers(kinds: Iterable[Any]) -> dict[str, Any]:
    """Each once, for all routes. Their words stand beside their schema, where readers of the document look for them."""
    found = [parameter for kind in kinds for parameter in _given(kind, "header")]
    return {each["name"]: {**each, "description": each["schema"].pop("description")} for each in found}


def _told(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"$ref": _HEADER.format(name=name)} for name in names}


def _body(said: Operation, schemas: Schemas) -> dict[str, Any]:
    schemes = [schemas[kind] for kind in (said.body, said.own) if kind]
    schema: dict[str, Any] = schemes[0] if schemes else {"type": "object"}
    if said.required or said.own:
        schema = {"allOf": schemes, "type": "object", "required": list(said.required)}
    content: dict[str, Any] = {"schema": schema}
    if said.example:
        content["example"] = said.example
    return {"required": True, "content": dict.fromkeys((JSON, FORM) if said.forms else (JSON,), content)}


def _responses(said: Operation, schemas: Schemas) -> dict[str, Any]:
    answer: dict[str, Any] = schemas[said.answer] if said.answer else {}
    content = {kind: {"schema": answer} if kind == JSON else {} for kind in said.media}
    shown = {"description": "The answer", "headers": _told((*ALWAYS, *said.told)), "content": content}
    refusals = {status: {"$ref": _RESPONSE.format(name=_refusal(said.error, status))} for status in REFUSALS}
    return refusals | {str(status): shown for status in said.status}


def _refusals(errors: Iterable[Any], schemas: Schemas) -> dict[str, Any]:
    """Each once, for all routes whose errors have that shape."""
    headers = _told((*ALWAYS, *AGAIN))
    return {
        _refusal(error, status): {"description": why, "headers": headers, "content": {JSON: {"schema": schemas[error]}}}
        for error in sorted(errors, key=str)
        for status, why in REFUSALS.items()
    }


def _refusal(error: Any, status: str) -> str:
    return f"{error.__name__}{status}"
