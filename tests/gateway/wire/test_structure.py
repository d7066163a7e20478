"""Structured answers from models that have no such thing: what they are told, and what counts as right."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any, ClassVar

import pytest
from jsonschema import Draft202012Validator
from referencing.exceptions import Unresolvable

from eventstore.catalogue.values import Usage
from gateway.wire.dialect import Form
from gateway.wire.dialects import CHAT
from gateway.wire.held import Held
from gateway.wire.schema_cost import LONGEST_SCHEMA
from gateway.wire.structure import Structure, corrected, only_json, prompted, wanted
from gateway.wire.values import Delta, Fold, Meta, WireError

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
PERSON = Structure(SCHEMA)
ANY = Structure(None)


def asking(kind: str, schema: Any = SCHEMA) -> dict[str, Any]:
    wrapper = {"json_schema": {"name": "person", "schema": schema}} if kind == "json_schema" else {}
    return {"messages": [{"role": "user", "content": "Who?"}], "response_format": {"type": kind, **wrapper}}


def test_what_is_wanted_is_read_from_the_format() -> None:
    assert wanted({"messages": []}) is None
    assert wanted(asking("text")) is None
    assert wanted(asking("json_object")) == ANY
    assert wanted(asking("json_schema")) == PERSON


def test_a_schema_that_is_none_is_refused() -> None:
    with pytest.raises(WireError, match="not a JSON Schema"):
        wanted(asking("json_schema", {"type": "nothing"}))


def test_a_schema_that_is_too_long_is_not_even_looked_at() -> None:
    with pytest.raises(WireError, match="longer than 256 KiB"):
        wanted(asking("json_schema", {"type": "nothing", "title": "x" * LONGEST_SCHEMA}))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"name":"Ada","age":36}', None),
        ('  {"name":"Ada","age":36}\n', None),
        ('```json\n{"name":"Ada","age":36}\n```', None),
        ("```\n{}\n```", "required"),
        ('{"name":"Ada","age":-1}', "age"),
        ('{"name":"Ada","age":36,"x":1}', "x"),
        ('Here it is: {"name":"Ada","age":36}', "not valid JSON"),
        ("", "not valid JSON"),
        ('{"name":"Ada"', "not valid JSON"),
    ],
)
def test_an_answer_is_right_or_it_is_said_what_is_wrong(text: str, problem: str | None) -> None:
    found = PERSON.problem(text)
    assert found is None if problem is None else found is not None and problem in found


@pytest.mark.parametrize(("text", "right"), [('{"a":[1]}', True), ("[1]", False), ("1", False), ("x", False)])
def test_any_object_is_an_object(text: str, right: bool) -> None:
    assert (ANY.problem(text) is None) == right


def test_the_wish_stands_in_the_system_message() -> None:
    body = asking("json_schema")
    told = prompted(body, PERSON)
    assert "response_format" in body
    assert "response_format" not in told
    assert [m["role"] for m in told["messages"]] == ["system", "user"]
    assert '"minimum":0' in told["messages"][0]["content"]
    told = prompted({**body, "messages": [{"role": "system", "content": "Be brief."}, *body["messages"]]}, PERSON)
    assert told["messages"][0]["content"].startswith("Be brief.\n\nAnswer with one JSON value")


def test_the_next_attempt_sees_its_answer_and_what_was_wrong() -> None:
    again = corrected(prompted(asking("json_object"), ANY), "[1]", "It is not a JSON object.")
    assert [m["role"] for m in again["messages"]] == ["system", "user", "assistant", "user"]
    assert again["messages"][2]["content"] == "[1]"
    assert "It is not a JSON object." in again["messages"][3]["content"]


def test_only_a_fence_around_all_of_it_is_taken_away() -> None:
    assert only_json('{"a":"```json\\n{}\\n```"}') == '{"a":"```json\\n{}\\n```"}'
    assert only_json("```json\n{}\n```") == "{}"


@pytest.mark.parametrize("streamed", [True, False])
def test_a_held_answer_is_shown_whole_and_counted_with_the_attempts_before_it(streamed: bool) -> None:
    form = Form(request_id="01M7XXBW4QVD9HCQGVX09HHCXC", created=1, model="m", streamed=streamed, include_usage=True)
    held, first, second = Held(CHAT.renderer(form)), Fold(), Fold()
    first.add([Delta(text="no"), Meta(usage=Usage(input_tokens=5, output_tokens=1))])
    assert held.pieces([Delta(text="no")]) == b""
    held.again(first)
    second.add([Delta(text="```json\n{}\n```", finish_reason="stop")])
    second.add([Meta(usage=Usage(input_tokens=9, output_tokens=2))])
    shown = held.completed(second)
    assert b"no" not in shown
    assert b'"content":"{}"' in shown
    assert b'"prompt_tokens":14,"completion_tokens":3' in shown


class Listener(BaseHTTPRequestHandler):
    heard: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.heard.append(self.path)
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def listener() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Listener) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/schema"
        server.shutdown()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_schema_never_reaches_the_network(listener: str) -> None:
    """The twin: the same library, left alone, does."""
    schema = {"$ref": listener}
    with pytest.raises(WireError, match="refers to"):
        wanted(asking("json_schema", schema))
    with pytest.raises(WireError, match="refers to"):
        Structure(schema).problem("5")
    assert Listener.heard == []
    with pytest.raises(Unresolvable):
        Draft202012Validator(schema).validate(5)
    assert Listener.heard == ["/schema"]


def nested(depth: int) -> dict[str, Any]:
    return {} if depth == 0 else {"not": nested(depth - 1)}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "file:///etc/passwd"},
        {"$ref": "#/nope"},
        {"$dynamicRef": "#x"},
        {"$schema": []},
        {"$schema": 5},
        nested(190),
        {"type": "object", "$ref": "#"},
        {"allOf": [{"type": "object"}, {"$ref": "#"}]},
        {
            "properties": {"x": {"$ref": "#/$defs/a"}},
            "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"not": {"$ref": "#/$defs/a"}}},
        },
    ],
    ids=["file", "nowhere", "anchor", "list", "number", "deep", "itself", "itself among all", "round two"],
)
def test_a_schema_that_cannot_be_checked_against_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        wanted(asking("json_schema", schema))


def test_a_schema_may_say_the_same_of_a_value_twice_and_of_what_is_in_it() -> None:
    name = {"$ref": "#/$defs/name"}
    schema = {"$defs": {"name": {"type": "string"}}, "allOf": [name, name], "properties": {"a": {"$ref": "#"}}}
    assert wanted(asking("json_schema", schema)) == Structure(schema)


def test_a_schema_that_goes_round_in_circles_is_a_problem_and_no_crash() -> None:
    tree = {"additionalProperties": {"$ref": "#"}}
    assert wanted(asking("json_schema", tree)) == Structure(tree)
    assert Structure(tree).problem('{"a":{"b":{}}}') is None
    assert "deeply" in (Structure(tree).problem('{"a":' * 900 + "5" + "}" * 900) or "")
    assert "deeply" in (Structure({"$ref": "#"}).problem("5") or "")
    assert "deeply" in (Structure({"type": "object", "$ref": "#"}).problem("{}") or ""), "no panic of native code"


@pytest.mark.parametrize(
    "schema",
    [{"pattern": "(?=a)b"}, {"pattern": r"(a)\1"}, {"patternProperties": {"(a+)+$": {}}}, {"enum": ["x" * 300_000]}],
    ids=["look-ahead", "back-reference", "pattern properties", "long"],
)
def test_a_schema_whose_check_has_no_bound_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        wanted(asking("json_schema", schema))


def test_a_pattern_costs_no_more_than_its_text_is_long() -> None:
    """With the library's own matching this would take for ever."""
    schema = {"type": "string", "pattern": "^(a+)+$"}
    assert wanted(asking("json_schema", schema)) == Structure(schema)
    assert "does not match" in (Structure(schema).problem('"' + "a" * 5000 + 'b"') or "")
    assert Structure(schema).problem('"aaa"') is None


def test_a_check_that_doubles_at_each_step_is_given_up() -> None:
    steps = {f"s{n}": {"allOf": [{"$ref": f"#/$defs/s{n + 1}"}] * 2} for n in range(40)}
    schema = {"$ref": "#/$defs/s0", "$defs": steps | {"s40": {}}}
    assert wanted(asking("json_schema", schema)) == Structure(schema)
    with pytest.raises(WireError, match="too long"):
        Structure(schema).problem("5")


def test_items_are_unique_in_linear_time() -> None:
    schema = {"type": "array", "uniqueItems": True}
    assert Structure(schema).problem("[" + ",".join(f'{{"a":{n}}}' for n in range(20_000)) + "]") is None
    assert "unique" in (Structure(schema).problem('[{"a":1,"b":2},{"b":2,"a":1}]') or "")
