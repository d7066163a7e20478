"""OpenAI chat bodies in Ollama's words."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from ollama._types import ChatRequest, Options

from gateway.wire.ndjson import LineFramer
from gateway.wire.ollama import OllamaChatDecoder
from gateway.wire.ollama_request import SMALLEST_CONTEXT, encode
from gateway.wire.values import Unsupported, WireError
from tests.gateway.wire.reading import fold, read, script

HI = [{"role": "user", "content": "hi"}]
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0="}}


def said(messages: Any = HI, **fields: Any) -> dict[str, Any]:
    """The encoded body, which the official package's types accept."""
    body, _ = encode("qwen3:4b", {"model": "ollama/qwen3:4b", "messages": messages, **fields})
    value = orjson.loads(body)
    ChatRequest.model_validate(value)
    Options.model_validate(value.get("options", {}))
    assert isinstance(value, dict)
    return value


def test_the_least_request() -> None:
    assert said() == {"model": "qwen3:4b", "messages": HI, "stream": False, "truncate": False}
    assert said(stream=True)["stream"] is True


def test_sampling_goes_into_options() -> None:
    given = {
        "temperature": 0,
        "top_p": 0.5,
        "top_k": 3,
        "min_p": 0.1,
        "seed": 7,
        "repeat_penalty": 1.1,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.3,
        "num_ctx": 2048,
    }
    options = said(**given, stop="END", max_tokens=5, options={"mirostat": 1, "seed": 1})["options"]
    assert options == {**given, "mirostat": 1, "stop": ["END"], "num_predict": 5}
    assert said(stop=["a", "b"], max_tokens=5, max_completion_tokens=6)["options"] == {
        "stop": ["a", "b"],
        "num_predict": 6,
    }


def test_ollamas_own_fields_pass() -> None:
    own = {"keep_alive": 0, "shift": True, "truncate": True, "logprobs": True, "top_logprobs": 2}
    assert said(**own).items() >= own.items()


@pytest.mark.parametrize(
    ("fields", "think"),
    [
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "minimal"}, "low"),
        ({"reasoning_effort": "low"}, "low"),
        ({"reasoning_effort": "high"}, "high"),
        ({"reasoning_effort": "xhigh"}, "high"),
        ({"reasoning_effort": "max"}, "high"),
        ({"thinking": True}, True),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, True),
        ({"thinking": {"type": "disabled"}, "reasoning_effort": "high"}, False),
        ({"think": "medium", "thinking": False}, "medium"),
        ({}, None),
    ],
)
def test_thinking(fields: dict[str, Any], think: Any) -> None:
    assert said(**fields).get("think") == think


def test_formats() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert said(response_format={"type": "json_object"})["format"] == "json"
    assert said(response_format={"type": "json_schema", "json_schema": {"schema": schema}})["format"] == schema
    assert "format" not in said(response_format={"type": "text"})


def test_messages() -> None:
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, IMAGE, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "refusal": "no", "reasoning_content": "hm"},
    ]
    assert said(messages)["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "a\nb", "images": ["iVBORw0="]},
        {"role": "assistant", "content": "no", "thinking": "hm"},
    ]


def test_a_tool_conversation_goes_out_as_it_came_in() -> None:
    answer = fold(read(LineFramer(), OllamaChatDecoder(), [script("ollama/tools.ndjson")])).choices()[0]["message"]
    calls = answer["tool_calls"]
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "x"} for call in calls]
    encoded, left_out = encode("m", {"messages": [*HI, answer, *results], "tools": [WEATHER]})
    assert left_out == ()
    assert b'"arguments":{"city":"Z\xc3\xbcrich","station":18446744073709551616123,"height":1.50}' in encoded
    _, assistant, weather, time = orjson.loads(encoded)["messages"]
    assert [call["function"]["name"] for call in assistant["tool_calls"]] == ["get_weather", "get_time"]
    assert weather == {
        "role": "tool",
        "content": "x",
        "tool_name": "get_weather",
        "tool_call_id": calls[0]["id"],
    }
    assert time["tool_name"] == "get_time"


def test_tools_are_offered_unless_the_choice_is_none() -> None:
    strict = {"type": "function", "function": {"name": "f", "strict": True}}
    body, left_out = encode("m", {"messages": HI, "tools": [WEATHER, strict], "tool_choice": "auto"})
    assert orjson.loads(body)["tools"] == [WEATHER, {"type": "function", "function": {"name": "f"}}]
    assert left_out == ("tools[].function.strict",)
    assert "tools" not in said(tools=[WEATHER], tool_choice="none", parallel_tool_calls=False)


@pytest.mark.parametrize(
    ("length", "fields", "context"),
    [
        (3000, {}, None),
        (20_000, {}, 8192),
        (100_000, {}, 65536),
        (20_000, {"num_ctx": 3000}, 3000),
        (20_000, {"options": {"num_ctx": 3000}}, 3000),
        (3000, {"max_tokens": 7000}, 8192),
    ],
)
def test_the_context_holds_the_prompt_and_its_answer(length: int, fields: dict[str, Any], context: Any) -> None:
    body = said([{"role": "user", "content": "x" * length}], **fields)
    assert body.get("options", {}).get("num_ctx") == context


def test_the_context_counts_images_by_number_not_by_size() -> None:
    big = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    assert "options" not in said([{"role": "user", "content": [big]}])
    assert said([{"role": "user", "content": [big] * 4}])["options"]["num_ctx"] == 2 * SMALLEST_CONTEXT


def test_an_images_detail_is_named() -> None:
    image = {"url": "data:image/png;base64,aGk=", "detail": "low"}
    messages = [{"role": "user", "content": [{"type": "image_url", "image_url": image}]}]
    assert encode("m", {"messages": messages})[1] == ("messages[].image_url.detail",)


def test_advisory_and_default_values_are_named() -> None:
    _, left_out = encode("m", {"messages": HI, "user": "u", "store": True, "n": 1, "service_tier": "auto"})
    assert left_out == ("user", "store", "n", "service_tier")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"logit_bias": {"1": 1}}, "logit_bias"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"tool_choice": "required", "tools": [WEATHER]}, "tool_choice"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"reasoning_effort": "a lot"}, "reasoning_effort"),
        ({"reasoning_effort": []}, "reasoning_effort"),
        ({"thinking": {"type": "other"}}, "thinking"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"a_field_of_next_year": 1}, "a_field_of_next_year"),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Unsupported) as refused:
        encode("m", {"messages": HI, **fields})
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": "https://x/y.png"}]},
            "messages[0].content[0]",
        ),
        ({"role": "user", "content": [{"type": "file", "file": {}}]}, "messages[0].content[0]"),
        ({"role": "function", "content": "x"}, "messages[0].role"),
        ({"role": "assistant", "audio": {"id": "a"}}, "messages[0].audio"),
    ],
)
def test_content_that_cannot_be_carried_is_refused_by_its_place(message: dict[str, Any], param: str) -> None:
    with pytest.raises(Unsupported) as refused:
        encode("m", {"messages": [message]})
    assert refused.value.param == param


def test_what_cannot_be_understood_is_named() -> None:
    bad = {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{]"}}]}
    with pytest.raises(WireError, match="arguments"):
        encode("m", {"messages": [bad]})
    with pytest.raises(WireError, match="tool_call_id"):
        encode("m", {"messages": [{"role": "tool", "content": "x"}]})
    with pytest.raises(WireError, match="options"):
        encode("m", {"messages": HI, "options": [1]})
