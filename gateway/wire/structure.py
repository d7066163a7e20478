"""Structured answers from models that have no such thing: asked for in the prompt, checked, and asked for again with
what was wrong. Pure.

`response_format` as in https://platform.openai.com/docs/guides/structured-outputs
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012, EMPTY_REGISTRY

from eventstore.value import value
from gateway.wire.chat_request import json_schema
from gateway.wire.schema_cost import check_cost, check_length, checker
from gateway.wire.values import WireError

MOST_ATTEMPTS = 3
LONGEST_PROBLEM = 500
WHERE = "response_format.json_schema.schema"
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_FENCED = re.compile(r"\A```(?:json|JSON)?[ \t]*\n(.*?)\n?```\Z", re.DOTALL)


@value
class Structure:
    """What an answer must be: any JSON object, or what the schema says."""

    schema: dict[str, Any] | None

    def prompt(self) -> str:
        """How a model is told."""
        if self.schema is None:
            return "Answer with one JSON object and nothing else: no explanation, no code fence."
        return (
            "Answer with one JSON value and nothing else: no explanation, no code fence. "
            f"It must be valid against this JSON Schema:\n{orjson.dumps(self.schema).decode()}"
        )

    def problem(self, text: str) -> str | None:
        """What is wrong with an answer, in words for the model; None where it is right."""
        try:
            found = orjson.loads(only_json(text))
        except orjson.JSONDecodeError as error:
            return f"It is not valid JSON: {error}"[:LONGEST_PROBLEM]
        if self.schema is None:
            return None if isinstance(found, dict) else "It is not a JSON object."
        try:
            worst = best_match(checker(self.schema).iter_errors(found))
        except RecursionError:
            return "It is nested too deeply to be checked against the schema."
        except Unresolvable as error:
            raise WireError(f"the schema refers to what it does not hold: {error.ref[:200]!r}") from error
        return None if worst is None else _said(worst)


def wanted(body: Mapping[str, Any]) -> Structure | None:
    """What a chat body asks for; None where any text will do. Raises `WireError` for a schema that is none."""
    response_format = body.get("response_format") or {}
    kind = response_format.get("type", "text")
    if kind == "json_object":
        return Structure(None)
    if kind != "json_schema":
        return None
    schema = json_schema(response_format)
    if not isinstance(schema.get("$schema", ""), str):
        raise WireError(f"{WHERE} is not a JSON Schema: its $schema is no text")
    try:
        check_length(schema)
        _validator(schema).check_schema(schema)
    except SchemaError as error:
        raise WireError(f"{WHERE} is not a JSON Schema: {error.message[:200]}") from error
    except RecursionError as error:
        raise WireError(f"{WHERE} is nested too deeply") from error
    _check_references(schema)
    check_cost(schema)
    return Structure(schema)


def prompted(body: Mapping[str, Any], structure: Structure) -> dict[str, Any]:
    """The body with the wish in its system message instead of `response_format`."""
    messages = list(body["messages"])
    if messages and messages[0].get("role") in ("system", "developer") and isinstance(messages[0].get("content"), str):
        messages[0] = {**messages[0], "content": f"{messages[0]['content']}\n\n{structure.prompt()}"}
    else:
        messages.insert(0, {"role": "system", "content": structure.prompt()})
    return {name: held for name, held in body.items() if name != "response_format"} | {"messages": messages}


def corrected(body: Mapping[str, Any], answer: str, problem: str) -> dict[str, Any]:
    """The body of the next attempt: the answer, and what was wrong with it."""
    wish = f"That answer cannot be used. {problem} Answer again with the corrected JSON alone."
    more = [{"role": "assistant", "content": answer}, {"role": "user", "content": wish}]
    return {**body, "messages": [*body["messages"], *more]}


def only_json(text: str) -> str:
    """The JSON of an answer, out of the code fence that models like to put around it."""
    text = text.strip()
    fenced = _FENCED.match(text)
    return fenced.group(1).strip() if fenced else text


def _validator(schema: dict[str, Any]) -> Validator:
    """One that fetches nothing: left alone, the library opens any URL."""
    return validator_for(schema, default=Draft202012Validator)(schema, registry=EMPTY_REGISTRY)


def _check_references(schema: dict[str, Any]) -> None:
    """Raises `WireError` for a reference to what is not in the schema, and for one that leads back to itself without
    going into the value: to check that would never end."""
    resolver = EMPTY_REGISTRY.with_resource("", DRAFT202012.create_resource(schema)).resolver()
    for ref in set(_references(schema)):
        try:
            if not ref.startswith("#"):
                raise Unresolvable(ref)
            resolver.lookup(ref)
        except Unresolvable as error:
            raise WireError(f"{WHERE} refers to what it does not hold: {ref[:200]!r}") from error
    _check_loops(schema, lambda ref: resolver.lookup(ref).contents)


def _check_loops(schema: dict[str, Any], lookup: Callable[[str], Any]) -> None:
    above: dict[int, None] = {}  # by `id`: the schema stays as it is meanwhile
    done: set[int] = set()
    waiting = [(at, False) for at in _objects(schema)]
    while waiting:
        at, left = waiting.pop()
        if left:
            done.add(above.popitem()[0])
        elif isinstance(at, dict) and id(at) not in done:
            if id(at) in above:
                raise WireError(f"{WHERE} refers to itself without end")
            above[id(at)] = None
            waiting.append((at, True))
            waiting += ((each, False) for each in _in_place(at, lookup))


def _in_place(schema: dict[str, Any], lookup: Callable[[str], Any]) -> Iterator[Any]:
    """The schemas that check the same value."""
    yield from (lookup(schema[name]) for name in _REFERENCES if isinstance(schema.get(name), str))
    for name in ("allOf", "anyOf", "oneOf"):
        yield from schema[name] if isinstance(schema.get(name), list) else ()
    yield from (schema[name] for name in ("not", "if", "then", "else") if name in schema)


def _references(value: Any) -> Iterator[str]:
    for at in _objects(value):
        yield from (at[name] for name in _REFERENCES if isinstance(at.get(name), str))


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    waiting = [value]
    while waiting:
        at = waiting.pop()
        if isinstance(at, dict):
            yield at
            waiting += at.values()
        elif isinstance(at, list):
            waiting += at


def _said(error: ValidationError) -> str:
    return f"At {error.json_path}: {error.message}"[:LONGEST_PROBLEM]
