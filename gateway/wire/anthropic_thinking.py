"""How models of Anthropic's are told to think, or not to: in which words hangs on their names.

Up to 4.5 they get a budget; from 4.6 on they think as much as they see fit, the more the higher the `effort`, and since
4.7 a budget is 400. The newest cannot be stopped: they refuse `disabled` with 400. An effort, which is about text
and calls too, is 400 for all before 4.6 but Opus 4.5.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from eventstore.value import value
from gateway.wire.chat_request import Fields
from gateway.wire.thinking import LEVELS, USUAL, wish

LEAST_BUDGET = 1024
BUDGETS = {"minimal": LEAST_BUDGET, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 24_576, "max": 32_000}
"""Tokens of thought for a word (https://docs.claude.com/en/docs/build-with-claude/extended-thinking)."""

_BUDGETED = ("enabled", "disabled")
_WAYS: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(("claude-3", "claude-3-5", "claude-3-7"), _BUDGETED),
    **dict.fromkeys(("claude-opus-4", "claude-opus-4-0", "claude-opus-4-1", "claude-opus-4-5"), _BUDGETED),
    **dict.fromkeys(("claude-sonnet-4", "claude-sonnet-4-0", "claude-sonnet-4-5", "claude-haiku-4-5"), _BUDGETED),
    **dict.fromkeys(("claude-opus-4-6", "claude-opus-4-7", "claude-opus-4-8"), ("adaptive", "disabled")),
    **dict.fromkeys(("claude-sonnet-4-6", "claude-sonnet-5", "claude-opus-5"), ("adaptive", "disabled")),
    "claude-haiku-5-5": ("adaptive", "disabled"),
    "claude-sonnet-5-5": ("adaptive", "between_tools"),
}
"""A model's name without its date -> how its thinking is turned on and off. Sources, of November 2026:
https://platform.claude.com/docs/en/build-with-claude/thinking, and the migration guides under
https://platform.claude.com/docs/en/models (opus-5-5: no `disabled`; sonnet-5-5: `between_tools` in its place)."""
_NEWEST = ("adaptive", None)
"""Any other Claude: Opus 5.5, Fable, Mythos, and those that are not there yet."""
_NAME = re.compile(r"claude-(?:[a-z]+-)?\d(?:[.-]\d{1,2})?(?!\d)")
_NO_EFFORTS: Mapping[str, tuple[str, ...]] = {
    "claude-opus-4-5": ("xhigh", "max"), "claude-opus-4-6": ("xhigh",), "claude-sonnet-4-6": ("xhigh",)
}  # fmt: skip
"""What models that know efforts do not know of them: https://platform.claude.com/docs/en/build-with-claude/effort"""
_THOUGHTS = ("thinking", "redacted_thinking")


@value
class Thought:
    """What is said of it: the API's `thinking` and `effort`, and the tokens that an answer with it needs beside its
    own."""

    thinking: Mapping[str, Any] | None = None
    effort: str | None = None
    tokens: int = 0


def thought(model: str, fields: Fields, turns: Sequence[Mapping[str, Any]]) -> Thought:
    """Of `thinking`, Anthropic's own object or a word, and of `reasoning_effort`, which the word beats. Raises
    `Unsupported`, `InvalidRequest`."""
    given, effort = fields.take("thinking"), _effort(fields)
    name, (on, off) = _way(model)
    wished, knows = wish(given), on == "adaptive" or name in _NO_EFFORTS
    if effort is not None and (wished is not None or (isinstance(given, dict) and (effort == "off" or not knows))):
        fields.ignore("reasoning_effort")
        effort = None
    if isinstance(given, dict):
        budget = given.get("budget_tokens")
        return Thought(given, _known(name, effort), budget if isinstance(budget, int) else 0)
    asked, word = ("thinking", wished) if wished is not None else ("reasoning_effort", effort)
    if word is None:
        return Thought()
    if word == "off":
        if off is None:
            fields.ignore(asked)
            return Thought(effort="low")
        return Thought({"type": off})
    if knows and asked == "reasoning_effort":
        return Thought(effort=_known(name, word))
    if on == "adaptive":
        return Thought({"type": on}, None if word == "on" else _known(name, word), BUDGETS[_level(word)])
    return _budgeted(word, asked, fields, turns)


def _effort(fields: Fields) -> str | None:
    """`reasoning_effort` as one of our words: `off`, or a level."""
    effort = fields.take("reasoning_effort")
    if effort is None:
        return None
    if effort in (*LEVELS, "none"):
        return "off" if effort == "none" else str(effort)
    raise fields.unsupported("reasoning_effort", f"it has no effort {effort!r}")


def _way(model: str) -> tuple[str, tuple[str, str | None]]:
    """The name without its date, and how it is told. What is no Claude, but speaks the same API, takes budgets."""
    if "claude" not in model:
        return model, _BUDGETED
    found = _NAME.search(model)
    name = found[0].replace(".", "-") if found else model
    return name, _WAYS.get(name, _NEWEST)


def _level(word: str) -> str:
    return USUAL if word == "on" else word


def _known(name: str, level: str | None) -> str | None:
    """The nearest effort that the model knows."""
    if level in _NO_EFFORTS.get(name, ()):
        return "high"
    return "low" if level == "minimal" else level


def _budgeted(word: str, asked: str, fields: Fields, turns: Sequence[Mapping[str, Any]]) -> Thought:
    """A budget that leaves room for the answer, and nothing where there is none, or where a turn goes on that did not
    begin with thinking: the API refuses both with 400."""
    most, budget = fields.peek("max_completion_tokens") or fields.peek("max_tokens"), BUDGETS[_level(word)]
    if isinstance(most, int):
        budget = min(budget, max(LEAST_BUDGET, most // 2))
        if budget >= most:
            budget = 0
    if not budget or _goes_on_without(turns):
        fields.ignore(asked)
        return Thought()
    return Thought({"type": "enabled", "budget_tokens": budget}, None, budget)


def _goes_on_without(turns: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the last turn of the model waits for results of its tools and does not begin with thinking, as where its
    client keeps none of it."""
    if len(turns) < 2 or not any(block.get("type") == "tool_result" for block in turns[-1]["content"]):
        return False
    first = turns[-2]["content"][0]
    return not isinstance(first, dict) or first.get("type") not in _THOUGHTS
