"""A Messages request as chat: every block finds its place, what is left out is named, the rest is refused."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import InvalidRequest, UnsupportedParameter
from gateway.wire.messages import request

PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
TOOL = {"name": "f", "description": "d", "input_schema": {"type": "object"}, "strict": True}


def body(*content: Any, role: str = "user", **fields: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 9, "messages": [{"role": role, "content": list(content)}], **fields}


def chat(*content: Any, role: str = "user", **fields: Any) -> dict[str, Any]:
    asked = body(*content, role=role, **fields)
    request.check(asked)
    return request.chat(asked)


def messages(*content: Any, role: str = "user") -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = chat(*content, role=role)["messages"]
    return said


@pytest.mark.parametrize(
    ("block", "part"),
    [
        (PNG, {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}),
        (
            {"type": "image", "source": {"type": "url", "url": "https://h/a.png"}},
            {"type": "image_url", "image_url": {"url": "https://h/a.png"}},
        ),
        (
            {"type": "document", "title": "r.pdf", "source": {"type": "url", "url": "https://h/r"}},
            {"type": "file", "file": {"filename": "r.pdf", "file_url": "https://h/r"}},
        ),
        (
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="}},
            {"type": "file", "file": {"filename": "document.pdf", "file_data": "data:application/pdf;base64,aGk="}},
        ),
        (
            {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "d"}},
            {"type": "text", "text": "T\n\nd"},
        ),
        (
            {"type": "search_result", "title": "T", "source": "s", "content": [{"type": "text", "text": "c"}]},
            {"type": "text", "text": "T\ns\nc"},
        ),
    ],
)
def test_every_block_of_a_user_has_its_part(block: Any, part: Any) -> None:
    text = {"type": "text", "text": "q"}
    assert messages(text, block) == [{"role": "user", "content": [text, part]}]


def test_one_text_stays_a_text() -> None:
    assert messages({"type": "text", "text": "q"}) == [{"role": "user", "content": "q"}]


def test_results_come_first_and_their_pictures_after() -> None:
    inner = [{"type": "text", "text": "a"}, PNG, {"type": "text", "text": "b"}]
    result = {"type": "tool_result", "tool_use_id": "t1", "content": inner}
    tool, user = messages({"type": "text", "text": "and?"}, result)
    assert tool == {"role": "tool", "tool_call_id": "t1", "content": "a\nb"}
    assert [part["type"] for part in user["content"]] == ["text", "image_url"]


@pytest.mark.parametrize(
    ("content", "told"),
    [("no such file", "Error: no such file"), ("Error: no", "Error: no"), ([], "Error: "), (None, "Error: ")],
)
def test_a_tool_that_failed_is_said_to_have(content: Any, told: str) -> None:
    result = {"type": "tool_result", "tool_use_id": "t1", "content": content, "is_error": True}
    assert messages(result) == [{"role": "tool", "tool_call_id": "t1", "content": told}]
    assert messages({**result, "content": "fine", "is_error": False})[0]["content"] == "fine"


def test_a_turn_of_the_models_is_its_text_and_its_calls() -> None:
    thinking = {"type": "thinking", "thinking": "…", "signature": "s"}
    text = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    use = {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}}
    [said] = messages(thinking, *text, use, role="assistant")
    function = {"name": "f", "arguments": '{"x":1}'}
    call = {"id": "t1", "type": "function", "function": function}
    assert said == {"role": "assistant", "content": "ab", "tool_calls": [call]}
    assert messages(use, role="assistant")[0]["content"] is None
    assert messages(thinking, role="assistant")[0]["content"] == ""


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"system": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, {}),
        ({"stop_sequences": ["x"]}, {"stop": ["x"]}),
        ({"metadata": {"user_id": "u"}}, {"user": "u"}),
        ({"top_k": 3, "temperature": 0.5}, {"top_k": 3, "temperature": 0.5}),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"thinking": "low"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 8000}}, {"thinking": "medium"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 30_000}}, {"thinking": "high"}),
        ({"thinking": {"type": "enabled"}}, {"thinking": "on"}),
        ({"thinking": {"type": "disabled"}}, {"thinking": "off"}),
        ({"thinking": {"type": "adaptive"}}, {}),
        ({"output_config": {"effort": "low"}}, {"reasoning_effort": "low"}),
    ],
    ids=str,
)
def test_every_field_has_its_word(fields: dict[str, Any], said: dict[str, Any]) -> None:
    found = chat({"type": "text", "text": "q"}, **fields)
    system = [{"role": "system", "content": "a\n\nb"}] if "system" in fields else []
    user = {"role": "user", "content": "q"}
    assert found == {"model": "m", "messages": [*system, user], "max_completion_tokens": 9, **said}


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        ({"type": "tool", "name": "f"}, {"tool_choice": {"type": "function", "function": {"name": "f"}}}),
        (
            {"type": "auto", "disable_parallel_tool_use": True},
            {"tool_choice": "auto", "parallel_tool_calls": False},
        ),
    ],
    ids=str,
)
def test_tools_and_their_choice(choice: dict[str, Any], said: dict[str, Any]) -> None:
    found = chat({"type": "text", "text": "q"}, tools=[TOOL], tool_choice=choice)
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
    assert found["tools"] == [{"type": "function", "function": function}]
    assert {name: found[name] for name in found if name in ("tool_choice", "parallel_tool_calls")} == said


def test_what_is_left_out_is_named() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "a", **mark}]}
    asked = body(
        result,
        system=[{"type": "text", "text": "s", **mark}],
        tools=[{**TOOL, **mark, "input_examples": [{}], "defer_loading": False}],
        context_management={},
        speed=None,
    )
    asked["messages"].append({"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}]})
    assert request.ignored(asked) == (
        "context_management", "messages[].cache_control", "messages[].redacted_thinking", "system[].cache_control",
        "tools[].cache_control", "tools[].input_examples",
    )  # fmt: skip
    assert request.ignored(body({"type": "text", "text": "q"}, tools=[TOOL])) == ()
    assert request.ignored(body({"type": "search_result", "content": [{"type": ["text"], "text": "q"}]})) == ()


@pytest.mark.parametrize(
    ("content", "role", "fields", "error"),
    [
        ({"type": "tool_use", "id": "t"}, "assistant", {}, InvalidRequest),
        ({"type": "tool_result"}, "user", {}, InvalidRequest),
        ({"type": "tool_result", "tool_use_id": "t", "content": 5}, "user", {}, InvalidRequest),
        ({"type": "search_result", "content": 5}, "user", {}, InvalidRequest),
        ({"type": "text", "text": "q"}, "robot", {}, InvalidRequest),
        ({"type": "text", "text": "q"}, "user", {"tool_choice": {"type": "x"}}, InvalidRequest),
        ({"type": "image", "source": {"type": "file", "file_id": "f"}}, "user", {}, UnsupportedParameter),
        ({"type": "server_tool_use"}, "assistant", {}, UnsupportedParameter),
        ({"type": "text", "text": "q"}, "user", {"container": "c"}, UnsupportedParameter),
        ({"type": "text", "text": "q"}, "user", {"tools": [{"type": "bash_1", "name": "b"}]}, UnsupportedParameter),
        ({"type": "text", "text": "q"}, "user", {"output_config": {"format": {"type": "y"}}}, UnsupportedParameter),
    ],
    ids=str,
)
def test_what_cannot_be_said_is_refused(content: Any, role: str, fields: dict[str, Any], error: Any) -> None:
    with pytest.raises(error):
        chat(content, role=role, **fields)


@pytest.mark.parametrize("missing", ["messages", "max_tokens"])
def test_what_must_be_there_is_asked_for(missing: str) -> None:
    asked = body({"type": "text", "text": "q"})
    del asked[missing]
    with pytest.raises(InvalidRequest, match="Field required"):
        request.check(asked)
