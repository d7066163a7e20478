"""How models of Anthropic's are told to think: each in the words that it takes."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.wire.anthropic_request import DEFAULT_MAX_TOKENS, encode
from gateway.wire.anthropic_thinking import BUDGETS, LEAST_BUDGET

HI = {"role": "user", "content": "hi"}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLED: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "7"}
SIGNED = {"thinking_blocks": [{"type": "thinking", "thinking": "x", "signature": "s"}]}


def told(model: str, *messages: Any, **fields: Any) -> tuple[Any, Any, tuple[str, ...]]:
    """(thinking, effort, what was left out)."""
    body, ignored = encode(model, {"messages": list(messages) or [HI], **fields})
    said = orjson.loads(body)
    thinking = said.get("thinking") or {}
    assert thinking.get("budget_tokens", LEAST_BUDGET) >= LEAST_BUDGET
    assert thinking.get("budget_tokens", 0) < said["max_tokens"]
    return thinking, said.get("output_config", {}).get("effort"), ignored


@pytest.mark.parametrize(
    "model",
    [
        "claude-3-7-sonnet-20250219", "claude-3-7-sonnet-latest", "claude-sonnet-4-20250514", "claude-opus-4-0",
        "claude-opus-4-1-20250805", "claude-sonnet-4-5-20250929", "claude-sonnet-4.5",
        "us.anthropic.claude-haiku-4-5-20251001-v1:0", "claude-sonnet-4-5@20250929", "deepseek-chat",
    ],
)  # fmt: skip
def test_older_ones_get_a_budget(model: str) -> None:
    assert told(model, thinking="high") == ({"type": "enabled", "budget_tokens": BUDGETS["high"]}, None, ())
    assert told(model, reasoning_effort="minimal") == ({"type": "enabled", "budget_tokens": LEAST_BUDGET}, None, ())
    assert told(model, thinking="off") == told(model, reasoning_effort="none") == ({"type": "disabled"}, None, ())


@pytest.mark.parametrize(
    ("model", "off"),
    [
        ("claude-opus-4-6", "disabled"), ("claude-sonnet-4-6", "disabled"), ("claude-opus-4-7", "disabled"),
        ("claude-opus-4-8", "disabled"), ("claude-sonnet-5", "disabled"), ("claude-opus-5-20260101", "disabled"),
        ("claude-haiku-5-5", "disabled"), ("claude-sonnet-5-5", "between_tools"),
    ],
)  # fmt: skip
def test_newer_ones_think_as_much_as_they_see_fit(model: str, off: str) -> None:
    assert told(model, thinking="on") == ({"type": "adaptive"}, None, ())
    assert told(model, thinking="low", max_tokens=9) == ({"type": "adaptive"}, "low", ())
    assert told(model, thinking="minimal") == ({"type": "adaptive"}, "low", ())
    assert told(model, reasoning_effort="minimal") == ({}, "low", ())
    assert told(model, thinking="off") == told(model, reasoning_effort="none") == ({"type": off}, None, ())


@pytest.mark.parametrize(
    "model",
    ["claude-opus-5-5", "claude-fable-5", "claude-fable-5-1", "claude-mythos-preview", "claude-opus-7", "claude-next"],
)
def test_the_newest_cannot_be_stopped(model: str) -> None:
    assert told(model, thinking="max") == ({"type": "adaptive"}, "max", ())
    assert told(model, thinking="off") == ({}, "low", ("thinking",))
    assert told(model, reasoning_effort="none") == ({}, "low", ("reasoning_effort",))


def test_one_of_the_older_ones_knows_efforts() -> None:
    assert told("claude-opus-4-5", thinking="low") == ({"type": "enabled", "budget_tokens": BUDGETS["low"]}, None, ())
    assert told("claude-opus-4-5-20251101", reasoning_effort="max", temperature=0.5) == ({}, "high", ())


def test_an_effort_that_a_model_does_not_know_is_the_next_below() -> None:
    assert told("claude-opus-4-6", reasoning_effort="xhigh")[1] == "high"
    assert told("claude-opus-4-7", thinking="xhigh")[1] == "xhigh"


def test_a_budget_leaves_room_or_is_left_out() -> None:
    old = "claude-sonnet-4-5"
    assert told(old, thinking="max", max_tokens=5000)[0]["budget_tokens"] == 2500
    assert told(old, thinking="max", max_completion_tokens=1025)[0]["budget_tokens"] == LEAST_BUDGET
    assert told(old, thinking="on", max_tokens=1000) == ({}, None, ("thinking",))
    assert told(old, reasoning_effort="low", max_tokens=1024) == ({}, None, ("reasoning_effort",))
    for model in (old, "claude-opus-4-8"):
        body = orjson.loads(encode(model, {"messages": [HI], "thinking": "high"})[0])
        assert body["max_tokens"] == DEFAULT_MAX_TOKENS + BUDGETS["high"]


def test_a_turn_that_goes_on_without_its_thinking_is_not_told_to_think() -> None:
    """Clients of chat keep none of it; then a budget is 400."""
    old = "claude-sonnet-4-5"
    assert told(old, HI, CALLED, RESULT, thinking="on")[0::2] == ({}, ("thinking",))
    assert told(old, HI, CALLED, RESULT, HI, thinking="on")[0::2] == ({}, ("thinking",))
    assert told(old, HI, {**CALLED, "thinking_blocks": ["x"]}, RESULT, thinking="on")[0::2] == ({}, ("thinking",))
    assert told(old, HI, {**CALLED, **SIGNED}, RESULT, thinking="on")[0]["type"] == "enabled"
    assert told(old, HI, CALLED, RESULT, {"role": "assistant", "content": "7."}, HI, thinking="on")[0] != {}
    assert told("claude-opus-4-8", HI, CALLED, RESULT, thinking="on")[0] == {"type": "adaptive"}


@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "claude-opus-4-8"])
def test_the_clients_own_object_is_its_own_affair(model: str) -> None:
    own = {"type": "enabled", "budget_tokens": 1234}
    assert told(model, thinking=own)[0] == own
    _, effort, ignored = told(model, thinking=own, reasoning_effort="high")
    assert (effort, ignored) == ((None, ("reasoning_effort",)) if "4-5" in model else ("high", ()))
