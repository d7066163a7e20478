"""OpenAI chat bodies in Anthropic's words."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
import pytest
from anthropic.types.message_create_params import (
    MessageCreateParamsNonStreaming,
    MessageCreateParamsStreaming,
)
from pydantic import TypeAdapter, ValidationError

from gateway.wire.anthropic_messages import MessagesBodyDecoder, MessagesStreamDecoder
from gateway.wire.anthropic_request import DEFAULT_MAX_TOKENS, encode
from gateway.wire.sse import SSEFramer
from gateway.wire.values import Unsupported, WireError
from gateway.wire.whole_body import BodyFramer
from tests.gateway.wire.reading import fold, read, script

HI = [{"role": "user", "content": "hi"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
STREAMING: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsStreaming)
WHOLE: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsNonStreaming)


def said(messages: Any = HI, **fields: Any) -> dict[str, Any]:
    """The encoded body, which the official types accept."""
    body, _ = encode("claude-x", {"model": "anthropic/claude-x", "messages": messages, **fields})
    value = orjson.loads(body)
    _consume((STREAMING if fields.get("stream") else WHOLE).validate_python(value))
    assert isinstance(value, dict)
    return value


def _consume(value: Any) -> None:
    """Pydantic checks iterables only as they are read."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        for item in value:
            _consume(item)


def ignored(**fields: Any) -> tuple[str, ...]:
    return encode("claude-x", {"messages": HI, **fields})[1]


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def test_the_least_request() -> None:
    assert said() == {
        "model": "claude-x",
        "messages": [{"role": "user", "content": [text("hi")]}],
        "max_tokens": DEFAULT_MAX_TOKENS,
    }


def test_instructions_stand_outside_in_order_and_neighbours_merge() -> None:
    body = said(
        [
            {"role": "system", "content": "one"},
            {"role": "user", "content": "a"},
            {"role": "developer", "content": [{"type": "text", "text": "two", "cache_control": {"type": "ephemeral"}}]},
            {"role": "user", "content": [text("b"), text("")]},
            {"role": "assistant", "content": "c"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "d"}]},
            {"role": "assistant", "content": None},
            {"role": "user", "content": "e"},
        ]
    )
    assert body["system"] == [text("one"), {**text("two"), "cache_control": {"type": "ephemeral"}}]
    assert body["messages"] == [
        {"role": "user", "content": [text("a"), text("b")]},
        {"role": "assistant", "content": [text("c"), text("d")]},
        {"role": "user", "content": [text("e")]},
    ]


def test_instructions_alone_are_what_the_user_says() -> None:
    body = said([{"role": "system", "content": "one"}, {"role": "developer", "content": "two"}])
    assert "system" not in body
    assert body["messages"] == [{"role": "user", "content": [text("one"), text("two")]}]


def test_a_tool_conversation_goes_out_as_it_came_in() -> None:
    answer = fold(read(SSEFramer(), MessagesStreamDecoder(), [script("anthropic/tools.sse")])).choices()[0]["message"]
    results = [
        {"role": "tool", "tool_call_id": call["id"], "name": call["function"]["name"], "content": content}
        for call, content in zip(answer["tool_calls"], ["rain", [text("noon")]], strict=True)
    ]
    encoded, left_out = encode("claude-x", {"messages": [*HI, answer, *results, *HI], "tools": [WEATHER]})
    assert left_out == ("messages[].name",)
    assert b'"station": 18446744073709551616123}' in encoded
    _, assistant, user = orjson.loads(encoded)["messages"]
    assert [block["type"] for block in assistant["content"]] == ["text", "tool_use", "tool_use"]
    assert assistant["content"][2] == {
        "type": "tool_use",
        "id": "toolu_01A09q90qw90lq917835lq9",
        "name": "get_time",
        "input": {},
    }
    assert user["content"] == [
        {"type": "tool_result", "tool_use_id": answer["tool_calls"][0]["id"], "content": "rain"},
        {"type": "tool_result", "tool_use_id": answer["tool_calls"][1]["id"], "content": [text("noon")]},
        text("hi"),
    ]


@pytest.mark.parametrize("streamed", [True, False])
def test_signed_thinking_goes_back_first_and_unchanged(streamed: bool) -> None:
    if streamed:
        pieces = read(SSEFramer(), MessagesStreamDecoder(), [script("anthropic/thinking.sse")])
    else:
        pieces = read(BodyFramer(), MessagesBodyDecoder(), [script("anthropic/body.json")])
    answer = fold(pieces).choices()[0]["message"]
    body, left_out = encode("claude-x", {"messages": [*HI, answer, *HI]})
    blocks = orjson.loads(body)["messages"][1]["content"]
    assert blocks[: len(answer["thinking_blocks"])] == answer["thinking_blocks"]
    assert blocks[0]["signature"]
    assert "messages[].reasoning_content" in left_out


def test_unsigned_reasoning_stays_here() -> None:
    earlier: dict[str, Any] = {
        "role": "assistant",
        "content": "x",
        "reasoning_content": "hm",
        "annotations": [],
        "refusal": None,
    }
    body, left_out = encode("claude-x", {"messages": [*HI, earlier, *HI]})
    assert orjson.loads(body)["messages"][1]["content"] == [text("x")]
    assert left_out == ("messages[].reasoning_content",)


def test_images_and_files() -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0=", "detail": "high"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}},
        {"type": "file", "file": {"file_data": "JVBERi0=", "filename": "B.PDF"}},
        {"type": "file", "file": {"file_data": "data:text/plain;base64," + b64encode("ü".encode()).decode()}},
        {"type": "file", "file": {"file_url": "https://example.com/c.pdf"}},
    ]
    blocks = said([{"role": "user", "content": parts}])["messages"][0]["content"]
    assert [block["source"] for block in blocks] == [
        {"type": "base64", "media_type": "image/png", "data": "iVBORw0="},
        {"type": "url", "url": "https://example.com/a.jpg"},
        {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
        {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
        {"type": "text", "media_type": "text/plain", "data": "ü"},
        {"type": "url", "url": "https://example.com/c.pdf"},
    ]
    assert [block.get("title") for block in blocks] == [None, None, "a.pdf", "B.PDF", None, None]


@pytest.mark.parametrize(("detail", "named"), [("high", ("messages[].image_url.detail",)), ("auto", ()), (None, ())])
def test_an_images_detail_is_named_unless_it_is_the_models_choice(detail: Any, named: tuple[str, ...]) -> None:
    image = {"url": "https://example.com/a.jpg", "detail": detail}
    messages = [{"role": "user", "content": [{"type": "image_url", "image_url": image}]}]
    assert encode("claude-x", {"messages": messages})[1] == named


def test_sampling_and_limits() -> None:
    body = said(
        max_tokens=5, max_completion_tokens=7, temperature=0.5, top_p=0.9, top_k=3, stop="END", user="u", stream=True
    )
    assert (body["max_tokens"], body["temperature"], body["top_p"], body["top_k"]) == (7, 0.5, 0.9, 3)
    assert (body["stop_sequences"], body["metadata"], body["stream"]) == (["END"], {"user_id": "u"}, True)
    assert said(max_tokens=5, stop=["a", "b"])["stop_sequences"] == ["a", "b"]
    assert said(user="u", safety_identifier="s")["metadata"] == {"user_id": "s"}


def test_thinking_and_effort() -> None:
    budget = {"type": "enabled", "budget_tokens": 4000}
    body = said(thinking=budget)
    assert (body["thinking"], body["max_tokens"]) == (budget, DEFAULT_MAX_TOKENS + 4000)
    assert said(thinking=budget, max_tokens=5000)["max_tokens"] == 5000
    assert said(reasoning_effort="high")["output_config"] == {"effort": "high"}
    assert said(reasoning_effort="low", output_config={"effort": "max"})["output_config"] == {"effort": "low"}


def test_structured_output() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
    assert said(response_format=wanted, output_config={"effort": "low"})["output_config"] == {
        "effort": "low",
        "format": {"type": "json_schema", "schema": schema},
    }


def test_tools() -> None:
    native = {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}
    strict = {"type": "function", "function": {"name": "f", "strict": True}, "cache_control": {"type": "ephemeral"}}
    tools = said(tools=[WEATHER, native, strict])["tools"]
    assert tools == [
        {
            "name": "get_weather",
            "description": "The weather",
            "input_schema": WEATHER["function"]["parameters"],  # type: ignore[index]  # a literal of mixed depth
        },
        native,
        {
            "name": "f",
            "input_schema": {"type": "object", "properties": {}},
            "strict": True,
            "cache_control": {"type": "ephemeral"},
        },
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, {"type": "tool", "name": "f"}),
        ({"tool_choice": {"type": "any"}}, {"type": "any"}),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"parallel_tool_calls": True}, None),
        (
            {"tool_choice": "required", "parallel_tool_calls": False},
            {"type": "any", "disable_parallel_tool_use": True},
        ),
    ],
)
def test_tool_choice(given: dict[str, Any], expected: Any) -> None:
    assert said(tools=[WEATHER], **given).get("tool_choice") == expected


def test_advisory_and_default_values_are_named() -> None:
    assert ignored(
        store=True,
        metadata={"a": "b"},
        n=1,
        presence_penalty=0,
        frequency_penalty=0.0,
        seed=7,
        logprobs=False,
        top_logprobs=0,
        logit_bias={},
        modalities=["text"],
        prediction={"type": "content", "content": "x"},
        prompt_cache_key="k",
        verbosity="medium",
        response_format=None,
        stream_options={"include_usage": True},
        api_key="secret",
    ) == (
        "store",
        "metadata",
        "n",
        "presence_penalty",
        "frequency_penalty",
        "seed",
        "logprobs",
        "top_logprobs",
        "logit_bias",
        "modalities",
        "prediction",
        "prompt_cache_key",
        "verbosity",
    )


@pytest.mark.parametrize(("given", "said_tier"), [("auto", "auto"), ("default", "standard_only")])
def test_service_tier(given: str, said_tier: str) -> None:
    assert said(service_tier=given)["service_tier"] == said_tier


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"logprobs": True}, "logprobs"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "alloy"}}, "audio"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"service_tier": {}}, "service_tier"),
        ({"reasoning_effort": "a lot"}, "reasoning_effort"),
        ({"reasoning_effort": []}, "reasoning_effort"),
        ({"verbosity": "high"}, "verbosity"),
        ({"functions": [{}]}, "functions"),
        ({"tools": [{"type": "custom", "custom": {"name": "c"}}]}, "tools[0]"),
        ({"tool_choice": {"type": "allowed_tools"}, "tools": [WEATHER]}, "tool_choice"),
        ({"a_field_of_next_year": 1}, "a_field_of_next_year"),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Unsupported) as refused:
        encode("claude-x", {"messages": HI, **fields})
    assert refused.value.param == param
    assert param in str(refused.value)


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, "messages[0].content[0]"),
        ({"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}, "messages[0].content[0].file"),
        (
            {"role": "user", "content": [{"type": "file", "file": {"file_data": "data:image/tiff;base64,AA=="}}]},
            "messages[0].content[0].file.file_data",
        ),
        ({"role": "function", "content": "x"}, "messages[0].role"),
        ({"role": "assistant", "function_call": {"name": "f"}}, "messages[0].function_call"),
        ({"role": "assistant", "audio": {"id": "a"}}, "messages[0].audio"),
        ({"role": "assistant", "tool_calls": [{"type": "custom", "id": "c"}]}, "messages[0].tool_calls[0]"),
    ],
)
def test_content_that_cannot_be_carried_is_refused_by_its_place(message: dict[str, Any], param: str) -> None:
    with pytest.raises(Unsupported) as refused:
        encode("claude-x", {"messages": [message]})
    assert refused.value.param == param


def call(arguments: Any) -> dict[str, Any]:
    function = {"name": "f", "arguments": arguments}
    return {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": function}]}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": ["x"]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [call("{")]}, "messages[0].tool_calls[0].function.arguments"),
        ({"messages": [call("[]")]}, "messages[0].tool_calls[0].function.arguments"),
        ({"messages": [call({"a": 1})]}, "messages[0].tool_calls[0].function.arguments"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///x"}}]}]},
            "messages[0].content[0].image_url.url",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x,y"}}]}]},
            "messages[0].content[0]",
        ),
        ({"messages": HI, "tools": {}}, "tools"),
        ({"messages": HI, "tools": ["x"]}, "tools[0]"),
        ({"messages": HI, "output_config": "x"}, "output_config"),
        ({"messages": HI, "response_format": {"type": "json_schema", "json_schema": "x"}}, "response_format"),
    ],
)
def test_what_cannot_be_understood_is_named(body: dict[str, Any], named: str) -> None:
    with pytest.raises(WireError, match=named.replace("[", r"\[").replace("]", r"\]")):
        encode("claude-x", body)


def test_the_clients_body_is_left_as_it_is() -> None:
    body = {
        "messages": [{"role": "user", "content": [text("a")]}, {"role": "user", "content": [text("b")]}, call("{}")],
        "tools": [WEATHER],
        "output_config": {"effort": "low"},
        "reasoning_effort": "high",
    }
    before = orjson.dumps(body)
    encode("claude-x", body)
    assert orjson.dumps(body) == before


def test_the_official_types_notice_a_wrong_block() -> None:
    wrong = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": [{"type": "text", "txt": "x"}]}]}
    with pytest.raises(ValidationError):
        _consume(WHOLE.validate_python(wrong))
