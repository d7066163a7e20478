"""One word for how much a model reasons, in each family's own way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from gateway.config import Settings
from gateway.errors import Forbidden, InvalidRequest
from gateway.upstreams.http import HttpClient
from gateway.upstreams.ollama import Ollama
from gateway.upstreams.openai_compatible import OpenAICompatible
from gateway.upstreams.registry import providers
from gateway.wire import anthropic_request, ollama_request

HI = [{"role": "user", "content": "hi"}]
PROVIDERS = providers(Settings())


def openai(provider: str, **fields: Any) -> dict[str, Any]:
    body = {"messages": HI, **fields}
    call = OpenAICompatible(HttpClient("n")).encode(PROVIDERS[provider], "m", body)
    sent: dict[str, Any] = orjson.loads(call.body)
    return {name: value for name, value in sent.items() if name not in ("messages", "model")}


def ollama(model: str, **fields: Any) -> Any:
    return orjson.loads(ollama_request.encode(model, {"messages": HI, **fields})[0]).get("think")


def anthropic(**fields: Any) -> Any:
    return orjson.loads(anthropic_request.encode("m", {"messages": HI, **fields})[0])


@pytest.mark.parametrize(
    ("word", "sent"),
    [
        (None, {}), ("auto", {}), ("on", {"reasoning_effort": "medium"}), (True, {"reasoning_effort": "medium"}),
        ("off", {"reasoning_effort": "none"}), (False, {"reasoning_effort": "none"}),
        ("high", {"reasoning_effort": "high"}),
    ],
)  # fmt: skip
def test_openais_servers_know_efforts(word: Any, sent: dict[str, Any]) -> None:
    assert openai("openai", thinking=word) == sent


def test_the_word_beats_the_effort_and_auto_leaves_it() -> None:
    assert openai("openai", thinking="low", reasoning_effort="high") == {"reasoning_effort": "low"}
    assert openai("openai", thinking="auto", reasoning_effort="high") == {"reasoning_effort": "high"}


def test_an_object_is_the_providers_own_affair() -> None:
    assert openai("openrouter", thinking={"type": "enabled"})["thinking"] == {"type": "enabled"}


def test_vllm_is_told_through_the_chat_template() -> None:
    assert openai("vllm", thinking="off") == {"chat_template_kwargs": {"enable_thinking": False}}
    assert openai("vllm", thinking="high") == {
        "chat_template_kwargs": {"enable_thinking": True}, "reasoning_effort": "high"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("model", "word", "think"),
    [
        ("qwen3:4b", "auto", None), ("qwen3:4b", "on", True), ("qwen3:4b", "high", True), ("qwen3:4b", "off", False),
        ("gpt-oss:20b", "high", "high"), ("gpt-oss:20b", "minimal", "low"), ("gpt-oss:20b", "max", "high"),
    ],
)  # fmt: skip
def test_ollama_knows_levels_for_one_family_only(model: str, word: Any, think: Any) -> None:
    assert ollama(model, thinking=word) == think


def test_anthropic_gets_a_budget_that_leaves_room_for_the_answer() -> None:
    assert "thinking" not in anthropic(thinking="auto")
    assert anthropic(thinking="off")["thinking"] == {"type": "disabled"}
    on = anthropic(thinking="on")
    assert on["thinking"]["budget_tokens"] < on["max_tokens"]
    assert anthropic(thinking="max", max_tokens=5000)["thinking"]["budget_tokens"] == 2500
    own = {"type": "enabled", "budget_tokens": 1234}
    assert anthropic(thinking=own)["thinking"] == own


@pytest.mark.parametrize("family", [anthropic, lambda **f: ollama("m", **f), lambda **f: openai("openai", **f)])
def test_another_word_is_refused(family: Any) -> None:
    with pytest.raises(InvalidRequest, match="must be null, auto, on, off") as refused:
        family(thinking="a lot")
    assert refused.value.param == "thinking"


def test_a_shared_ollama_unloads_only_where_that_is_allowed() -> None:
    family, provider, body = Ollama(HttpClient("n")), PROVIDERS["ollama"], {"messages": HI, "unload_after": True}
    with pytest.raises(Forbidden, match="unload_after"):
        family.encode(provider, "m", body)
    allowed = providers(replace(Settings(), allow_unsafe_unload_after=True))["ollama"]
    assert orjson.loads(family.encode(allowed, "m", body).body)["keep_alive"] == 0
    assert "unload_after" not in openai("openai", unload_after=True)
