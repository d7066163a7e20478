"""Published schemas, as far as this server's answers go: whether a value is what its clients were promised.

    check("CreateChatCompletionResponse", answer)
    check_open("ResponseResource", answer)

`openai_schema.json` and `open_responses_schema.json` beside this file hold one schema a line. They are made of the
documents that OpenAI (https://github.com/openai/openai-openapi) and Open Responses (https://www.openresponses.org)
publish, OpenAPI 3.1, without their prose and without the variants that this server never sends:
`python -m tests.endpoints.openai_schema openapi.json open_responses.json` writes them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

FILE = Path(__file__).parent / "openai_schema.json"
OPEN = Path(__file__).parent / "open_responses_schema.json"
ROOTS = (
    "CreateChatCompletionResponse", "CreateChatCompletionStreamResponse", "CreateCompletionResponse",
    "CreateEmbeddingResponse", "CreateModerationResponse", "CreateTranscriptionResponseJson", "ErrorResponse",
    "ImagesResponse", "ListModelsResponse", "Model", "Response", "ResponseItemList", "ResponseStreamEvent",
)  # fmt: skip
OPEN_EVENTS = (
    "Created", "InProgress", "Queued", "Completed", "Incomplete", "Failed", "OutputItemAdded", "OutputItemDone",
    "ContentPartAdded", "ContentPartDone", "OutputTextDelta", "OutputTextDone", "OutputTextAnnotationAdded",
    "RefusalDelta", "RefusalDone", "ReasoningSummaryPartAdded", "ReasoningSummaryPartDone", "ReasoningSummaryDelta",
    "ReasoningSummaryDone", "FunctionCallArgumentsDelta", "FunctionCallArgumentsDone",
)  # fmt: skip
OPEN_ROOTS = ("ResponseResource", *(f"Response{name}StreamingEvent" for name in OPEN_EVENTS))
"""Not the reasoning as it is, nor custom tools: for these it has other names than OpenAI, or none."""
SENT: Mapping[str, frozenset[str]] = {
    "ResponseStreamEvent": frozenset(
        f"Response{name}Event"
        for name in (
            "Created", "InProgress", "Queued", "Completed", "Incomplete", "Failed", "OutputItemAdded", "OutputItemDone",
            "ContentPartAdded", "ContentPartDone", "TextDelta", "TextDone", "OutputTextAnnotationAdded",
            "RefusalDelta", "RefusalDone", "ReasoningTextDelta", "ReasoningTextDone", "ReasoningSummaryPartAdded",
            "ReasoningSummaryPartDone", "ReasoningSummaryTextDelta", "ReasoningSummaryTextDone",
            "FunctionCallArgumentsDelta", "FunctionCallArgumentsDone", "CustomToolCallInputDelta",
            "CustomToolCallInputDone",
        )
    ),
    "OutputItem": frozenset({"OutputMessage", "FunctionToolCall", "CustomToolCall", "ReasoningItem"}),
    "ItemResource": frozenset(
        {"InputMessageResource", "OutputMessage", "FunctionToolCallResource", "FunctionToolCallOutputResource",
         "CustomToolCallResource", "CustomToolCallOutputResource", "ReasoningItem"}
    ),
    "InputItem": frozenset({"EasyInputMessage", "Item"}),
    "Item": frozenset({"InputMessage", "OutputMessage", "FunctionToolCall", "ReasoningItem"}),
    "Tool": frozenset({"FunctionTool", "CustomToolParam"}),
}  # fmt: skip
"""Union -> those of its variants that this server sends."""
NULLS: Mapping[str, Set[str]] = {
    "Response": {"usage"},
    "ModelResponseProperties": {"user"},
    "CreateCompletionResponse": {"finish_reason", "top_logprobs"},
}
"""Schema -> properties that are null in the document's own examples, or in OpenAI's answers, whatever it says."""
_PROSE = frozenset({"deprecated", "description", "discriminator", "example", "examples", "title"})


def check(name: str, value: Any) -> None:
    """Raises `AssertionError`, naming each place where `value` is not what OpenAI's schema of this name promises."""
    _check(FILE, _variants(name).get(value.get("type"), name), value)


def check_open(name: str, value: Any) -> None:
    """The same, of Open Responses."""
    _check(OPEN, name, value)


@cache
def open_events() -> dict[str, str]:
    """Open Responses' types of events -> their schemas."""
    return {_type(OPEN, name): name for name in OPEN_ROOTS[1:]}


def _check(file: Path, name: str, value: Any) -> None:
    wrong = [f"{error.json_path}: {error.message[:300]}" for error in _validator(file, name).iter_errors(value)]
    assert not wrong, f"no {name}: {wrong} in {json.dumps(value)[:2000]}"


@cache
def _schemas(file: Path) -> dict[str, Any]:
    schemas: dict[str, Any] = json.loads(file.read_text())["components"]["schemas"]
    return schemas


@cache
def _variants(name: str) -> dict[str, str]:
    """Of a union of events: `type` -> the one schema that is meant, whose errors say more than the union's."""
    variants = [each["$ref"].rpartition("/")[2] for each in _schemas(FILE)[name].get("anyOf", ()) if "$ref" in each]
    return {_type(FILE, variant): variant for variant in variants}


def _type(file: Path, event: str) -> str:
    named: str = _schemas(file)[event]["properties"]["type"]["enum"][0]
    return named


@cache
def _validator(file: Path, name: str) -> Draft202012Validator:
    uri, document = f"urn:{file.stem}", DRAFT202012.create_resource({"components": {"schemas": _schemas(file)}})
    registry: Registry[Any] = Registry().with_resource(uri, document)
    return Draft202012Validator({"$ref": f"{uri}#/components/schemas/{name}"}, registry=registry)


def excerpt(document: Mapping[str, Any], roots: Sequence[str]) -> dict[str, Any]:
    """Name -> schema: the roots and all that they are made of."""
    schemas, kept, wanted = document["components"]["schemas"], dict[str, Any](), list(roots)
    while wanted:
        name = wanted.pop()
        if name not in kept:
            kept[name] = _with_nulls(_pruned(name, _plain(schemas[name])), NULLS.get(name, set()))
            wanted += _named(kept[name])
    return dict(sorted(kept.items()))


def _plain(value: Any, names: bool = False) -> Any:
    """Without prose, and with OpenAPI 3.0's `nullable` in JSON Schema's words. `names`: the keys are names of the
    schema's own, not words of JSON Schema."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    held = {key: item for key, item in value.items() if names or not (key in _PROSE or key.startswith("x-"))}
    nullable = not names and held.pop("nullable", False)
    plain = {key: _plain(item, names=key == "properties" and not names) for key, item in held.items()}
    return {"anyOf": [plain, {"type": "null"}]} if nullable else plain


def _pruned(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    for union in ("anyOf", "oneOf"):
        if name in SENT and union in schema:
            schema[union] = [each for each in schema[union] if each["$ref"].rpartition("/")[2] in SENT[name]]
    return schema


def _with_nulls(value: Any, names: Set[str]) -> Any:
    """The same, but that properties of these names may be null."""
    if isinstance(value, list):
        return [_with_nulls(item, names) for item in value]
    if not isinstance(value, dict):
        return value
    made = {key: _with_nulls(item, names) for key, item in value.items()}
    found = {
        key: {"anyOf": [made[key], {"type": "null"}]} for key in names & made.keys() if isinstance(made[key], dict)
    }
    return made | found


def _named(value: Any) -> Iterator[str]:
    """The schemas that one refers to."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"].rpartition("/")[2]
        for item in value.values():
            yield from _named(item)
    elif isinstance(value, list):
        for item in value:
            yield from _named(item)


def write(document: Path, file: Path, roots: Sequence[str]) -> None:
    """Make `file` anew."""
    found = excerpt(json.loads(document.read_text()), roots)
    lines = [f"{json.dumps(name)}:{json.dumps(schema)}" for name, schema in found.items()]
    file.write_text('{"components":{"schemas":{\n' + ",\n".join(lines) + "\n}}}\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]), FILE, ROOTS)
    write(Path(sys.argv[2]), OPEN, OPEN_ROOTS)
