"""Tools told in the prompt: what the model reads, and that the parser reads what the model is told to write."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from gateway.wire.tooltext.calls import Call
from gateway.wire.tooltext.formats import FORMATS, Format
from gateway.wire.tooltext.parser import TextParser
from gateway.wire.tooltext.prompt import call_text, offers_tools, prompted, speaks_of_tools
from gateway.wire.values import Unsupported, WireError
from tests.gateway.wire.tooltext.texts import parse

ALL = pytest.mark.parametrize("format", FORMATS.values(), ids=lambda format: format.name)


def tool(name: str) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {"name": name, "description": f"does {name}", "parameters": {"type": "object"}},
    }


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "Go."}], "tools": [tool("a"), tool("b")], **fields}


def system(told: dict[str, Any]) -> str:
    first = told["messages"][0]
    assert first["role"] == "system"
    return first["content"]


LOOP = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Go."},
    {
        "role": "assistant",
        "content": "I look.",
        "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "a", "arguments": '{"x": 1.10}'}},
            {"id": "2", "type": "function", "function": {"name": "b", "arguments": ""}},
        ],
    },
    {"role": "tool", "tool_call_id": "1", "content": "sunny"},
    {"role": "tool", "tool_call_id": "2", "content": [{"type": "text", "text": "warm"}]},
    {"role": "assistant", "content": "Sunny."},
]


@ALL
def test_a_call_written_as_it_is_told_is_found(format: Format) -> None:
    written = call_text(format, "f", '{"x": "y"}')
    assert parse(TextParser(format), [written]) == [Call("f", '{"x":"y"}')]
    assert parse(TextParser(format), [f"I look.\n{written}\n{written}"])[1:] == [Call("f", '{"x":"y"}')] * 2


@ALL
def test_a_body_with_tools_becomes_one_without(format: Format) -> None:
    given = body(messages=LOOP, tool_choice="auto", parallel_tool_calls=True, temperature=0)
    before = copy.deepcopy(given)
    told = prompted(given, format)
    assert given == before
    assert told.keys() == {"model", "messages", "temperature"}
    assert [message["role"] for message in told["messages"]] == ["system", "user", "assistant", "user", "assistant"]
    said = system(told)
    assert said.startswith("Be brief.\n\n")
    assert '"description":"does a"' in said
    assert '"description":"does b"' in said
    assert format.call[0] in said
    called, results = told["messages"][2], told["messages"][3]
    assert called.keys() == {"role", "content"}
    assert parse(TextParser(format), [called["content"]])[1:] == [Call("a", '{"x":1.10}'), Call("b", "{}")]
    assert called["content"].startswith("I look.\n")
    assert results["content"].count(format.result[0]) == 2
    assert "sunny" in results["content"]
    assert "warm" in results["content"]


def test_without_a_system_message_there_is_one_now() -> None:
    told = prompted(body(), FORMATS["hermes"])
    assert system(told).startswith("# Tools")
    assert told["messages"][1:] == body()["messages"]


def test_a_system_message_of_parts_gets_one_more() -> None:
    parts = [{"type": "text", "text": "Be brief."}]
    told = prompted(body(messages=[{"role": "developer", "content": parts}]), FORMATS["hermes"])
    assert [part["type"] for part in told["messages"][0]["content"]] == ["text", "text"]


def test_tool_choice_is_respected() -> None:
    def said(**fields: Any) -> str:
        return system(prompted(body(**fields), FORMATS["hermes"]))

    assert prompted(body(tool_choice="none"), FORMATS["hermes"])["messages"] == body()["messages"]
    assert "must" not in said(tool_choice="auto")
    assert "must call one of the functions" in said(tool_choice="required")
    named = said(tool_choice={"type": "function", "function": {"name": "b"}})
    assert "must call the function b" in named
    assert "does a" not in named
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [tool("a")]}}
    assert "does b" not in said(tool_choice=allowed)
    assert "at most one call" in said(parallel_tool_calls=False)


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "function"}]},
        {"tools": ["a"]},
        {"tool_choice": "any"},
        {"tool_choice": {"type": "function", "function": {"name": "c"}}},
        {"messages": []},
    ],
)
def test_what_cannot_be_understood_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        prompted(body(**fields), FORMATS["hermes"])


def test_tools_that_are_no_functions_are_refused_by_name() -> None:
    with pytest.raises(Unsupported) as refused:
        prompted(body(tools=[{"type": "custom", "custom": {"name": "c"}}]), FORMATS["hermes"])
    assert refused.value.param == "tools[0]"


def test_an_image_in_a_result_stays() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    loop = [*LOOP[:3], {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "see"}, image]}]
    told = prompted(body(messages=loop), FORMATS["hermes"])
    assert told["messages"][-1]["content"][1] == image


def test_what_speaks_of_tools() -> None:
    assert speaks_of_tools(body())
    assert speaks_of_tools({"messages": LOOP})
    assert not speaks_of_tools({"messages": LOOP[:2], "tools": []})
    assert offers_tools(body())
    assert not offers_tools(body(tool_choice="none"))
    assert json.dumps(prompted({"messages": LOOP}, FORMATS["xml"])).count("<tools>") == 0
