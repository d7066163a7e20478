"""No field of a chat completions request is dropped in silence, whatever the family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsBase
from pydantic import ConfigDict, TypeAdapter, with_config
from typing_extensions import TypedDict

from gateway.errors import InvalidRequest
from gateway.wire import anthropic_request, chat_request, ollama_request
from gateway.wire.chat_request import GATEWAY_FIELDS
from gateway.wire.openai_chat_request import validate
from gateway.wire.values import Unsupported

Encode = Callable[[str, Mapping[str, Any]], tuple[bytes, tuple[str, ...]]]
FAMILIES: Mapping[str, Encode] = {"anthropic": anthropic_request.encode, "ollama": ollama_request.encode}

LEAST: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object", "properties": {}}}}

SAMPLES: Mapping[str, Any] = {
    "audio": {"voice": "alloy", "format": "mp3"},
    "frequency_penalty": 0.5,
    "function_call": "none",
    "functions": [{"name": "f"}],
    "logit_bias": {"1": 2},
    "logprobs": True,
    "max_completion_tokens": 7,
    "max_tokens": 7,
    "metadata": {"a": "b"},
    "modalities": ["text", "audio"],
    "moderation": {"model": "m"},
    "n": 2,
    "parallel_tool_calls": False,
    "prediction": {"type": "content", "content": "x"},
    "presence_penalty": 0.5,
    "prompt_cache_key": "k",
    "prompt_cache_options": {"ttl": "24h"},
    "prompt_cache_retention": "24h",
    "reasoning_effort": "high",
    "response_format": SCHEMA,
    "safety_identifier": "s",
    "seed": 7,
    "service_tier": "priority",
    "stop": ["END"],
    "store": True,
    "temperature": 0.5,
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "tools": [TOOL],
    "top_logprobs": 3,
    "top_p": 0.5,
    "user": "u",
    "verbosity": "high",
    "web_search_options": {"search_context_size": "low"},
}
"""A value of each standard field that is not its default."""


def test_every_standard_field_has_a_sample() -> None:
    assert SAMPLES.keys() | GATEWAY_FIELDS >= CompletionCreateParamsBase.__annotations__.keys()


def check_nothing_is_silent(encode: Encode, field: str, value: Any) -> None:
    """The field is refused by name, named as ignored, or changes what is said."""
    around = {"tools": [TOOL]} if field in {"tool_choice", "parallel_tool_calls"} else {}
    without, _ = encode("m", {**LEAST, **around})
    named: tuple[str, ...] = ()
    said = without
    try:
        said, named = encode("m", {**LEAST, **around, field: value})
    except Unsupported as refused:
        named = (refused.param.partition("[")[0],)
    carried = orjson.loads(said) != orjson.loads(without)
    assert carried != (field in named), f"{field} must be either carried or named"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("field", SAMPLES)
def test_every_standard_field_is_carried_named_or_refused(family: str, field: str) -> None:
    check_nothing_is_silent(FAMILIES[family], field, SAMPLES[field])


def test_the_check_notices_a_silent_drop() -> None:
    def dropping(model: str, body: Mapping[str, Any]) -> tuple[bytes, tuple[str, ...]]:
        return anthropic_request.encode(model, {k: v for k, v in body.items() if k != "logit_bias"})

    with pytest.raises(AssertionError, match="logit_bias"):
        check_nothing_is_silent(dropping, "logit_bias", {"1": 2})


@pytest.mark.parametrize("family", FAMILIES)
def test_null_and_defaults_change_nothing(family: str) -> None:
    encode = FAMILIES[family]
    least, _ = encode("m", LEAST)
    nulls, ignored = encode("m", LEAST | dict.fromkeys(SAMPLES))
    assert (nulls, ignored) == (least, ())
    quiet = {name: values[0] for name, values in chat_request.DEFAULTS.items() if name not in {"service_tier"}}
    said = orjson.loads(encode("m", LEAST | quiet)[0])
    assert {"tools", "response_format", "format", "n"}.isdisjoint(said)


@with_config(ConfigDict(extra="forbid"))
class Known(TypedDict):
    name: str


def test_what_is_missing_and_what_nobody_knows_have_openais_words() -> None:
    adapter: TypeAdapter[Known] = TypeAdapter(Known)
    with pytest.raises(InvalidRequest, match=r"^Missing required parameter: 'name'\.$") as missing:
        validate(adapter, {})
    assert (missing.value.param, missing.value.error_code) == ("name", "missing_required_parameter")
    with pytest.raises(InvalidRequest, match=r"^Unknown parameter: 'nmae'\.$") as unknown:
        validate(adapter, {"name": "x", "nmae": "y"})
    assert (unknown.value.param, unknown.value.error_code) == ("nmae", "unknown_parameter")
