"""Which models are told of tools in their prompt, and in which words."""

from __future__ import annotations

import pytest

from gateway.errors import InvalidRequest
from gateway.wire.tooltext.models import ToolModes, format_of, rules_of

RULES = rules_of("lmstudio/*=prompted, ollama/Gemma3*=gemma,vllm/x=native")


@pytest.mark.parametrize(
    ("asked", "provider", "model", "capabilities", "chosen"),
    [
        (None, "openai", "gpt-5", (), (None, "default")),
        (None, "openrouter", "google/gemma-3-27b-it", (), (None, "default")),
        (None, "lmstudio", "qwen3-4b", (), ("qwen3", "setting")),
        ("native", "lmstudio", "qwen3-4b", (), (None, "request")),
        ("auto", "ollama", "gemma3:4b", ("completion", "tools"), ("gemma", "setting")),
        (None, "ollama", "mistral:7b", ("completion", "tools"), (None, "provider")),
        (None, "ollama", "mistral:7b", ("completion",), ("mistral", "provider")),
        (None, "ollama", "llama2:7b", (), ("llama3", "table")),
        ("prompted", "openai", "gpt-5", (), ("xml", "request")),
    ],
)
def test_who_decides(
    asked: str | None, provider: str, model: str, capabilities: tuple[str, ...], chosen: tuple[str | None, str]
) -> None:
    local = provider in {"lmstudio", "ollama", "vllm"}
    choice = ToolModes(RULES, lambda *_: capabilities).choose(asked, provider, model, local)
    assert (choice.format and choice.format.name, choice.by) == chosen
    assert choice.said()["tools"] == ("prompted" if choice.format else "native")


@pytest.mark.parametrize(
    ("asked", "provider", "format"),
    [(None, "ollama", "llama3"), ("auto", "ollama", "llama3"), ("native", "ollama", None), (None, "vllm", None)],
)
def test_what_an_api_cannot_carry_goes_into_the_prompt_unless_somebody_said_native(
    asked: str | None, provider: str, format: str | None
) -> None:
    model = "x" if provider == "vllm" else "llama3.1:8b"
    choice = ToolModes(RULES, lambda *_: ("tools",)).choose(asked, provider, model, local=True)
    instead = choice.instead("tool_choice", model)
    assert (instead and instead.format and instead.format.name) == format
    assert instead is None or instead.said()["tools_by"] == "tool_choice"


def test_a_mode_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        ToolModes().choose("always", "openai", "m", local=False)


@pytest.mark.parametrize("said", ["x", "x=native", "a/b=always", "a/b="])
def test_a_rule_that_is_none_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match="provider/model=mode"):
        rules_of(said)


@pytest.mark.parametrize(
    ("model", "format"),
    [
        ("qwen3-coder:30b", "qwen3"),
        ("NousResearch/Hermes-3-Llama-3.1-8B", "hermes"),
        ("llama3.1:8b", "llama3"),
        ("google/gemma-3-4b", "gemma"),
        ("mixtral:8x7b", "mistral"),
        ("phi4", "xml"),
    ],
)
def test_a_models_words_by_its_name(model: str, format: str) -> None:
    assert format_of(model).name == format
