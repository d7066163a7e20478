"""How complex a request is, as a pure function of what was counted in it, and which tier it goes to."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.routing.chosen import chosen, decided_again, told_again
from gateway.routing.complexity import WEIGHTS, Facts, complexity, facts_of
from gateway.routing.order import Asked, ordered
from gateway.routing.virtual import Member, Virtual
from tests.routing.test_decisions import altered, found
from tests.routing.test_virtual import CLAUDE, GPT, QWEN, routed, table

SMALL, MIDDLE, LARGE = Member(QWEN, up_to=0.2), Member(GPT, up_to=0.5), Member(CLAUDE)
TIERS = f'members = [{{model = "{QWEN}", up_to = 0.2}}, {{model = "{GPT}", up_to = 0.5}}, "{CLAUDE}"]'
HARD = "Prove step by step that the square root of 2 is irrational, and justify each deduction."
CODE = "Write a Python function that reverses a list."

counts = st.integers(0, 10**9)
facts = st.builds(Facts, **dict.fromkeys(WEIGHTS, counts))
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "text", "type", "messages"]), inner, max_size=3)
    ),
    max_leaves=9,
)
chats = st.dictionaries(
    st.sampled_from(["messages", "tools", "max_tokens", "response_format", "reasoning_effort"]), junk
).map(lambda chat: {**chat, "messages": chat["messages"] if isinstance(chat.get("messages"), list) else []})


def scored(text: str, **fields: Any) -> float:
    return complexity(facts_of({"messages": [{"role": "user", "content": text}], **fields})).score


def test_every_fact_has_its_weight() -> None:
    assert {field.name for field in fields(Facts)} == set(WEIGHTS)


@given(facts)
def test_the_score_lies_between_none_and_one_and_each_part_below_it(counted: Facts) -> None:
    made = complexity(counted)
    assert 0 <= made.score <= 1
    assert all(0 <= part <= made.score + 1e-6 for part in made.parts.values())
    assert set(made.parts) <= {name for name in WEIGHTS if getattr(counted, name)}


@given(facts, st.sampled_from(sorted(WEIGHTS)), st.integers(1, 10**6))
def test_more_of_anything_never_lowers_it(counted: Facts, name: str, more: int) -> None:
    raised = replace(counted, **{name: getattr(counted, name) + more})
    assert complexity(raised).score >= complexity(counted).score


@settings(suppress_health_check=[HealthCheck.too_slow])  # on a busy machine bodies are made slowly
@given(chats)
def test_any_body_can_be_counted(chat: dict[str, Any]) -> None:
    assert 0 <= complexity(facts_of(chat)).score <= 1


@pytest.mark.parametrize(
    ("text", "fields", "low", "high"),
    [
        ("hi", {}, 0.0, 0.01),
        ("What is the capital of France?", {}, 0.0, 0.05),
        ("Translate 'good morning' to German.", {}, 0.0, 0.05),
        ("The cat sat on the mat. " * 40, {}, 0.02, 0.2),
        (CODE, {}, 0.2, 0.5),
        ("Solve for x: 3x + 5 = 20", {}, 0.2, 0.5),
        (HARD, {}, 0.5, 1.0),
        ("Debug this, then explain why it failed:\n```python\nx = f(x)\n```", {}, 0.5, 1.0),
        ("What is the capital of France?", {"reasoning_effort": "high"}, 0.4, 1.0),
        ("What is the weather?", {"tools": [{}, {}, {}]}, 0.15, 0.5),
    ],
)
def test_requests_of_each_kind(text: str, fields: dict[str, Any], low: float, high: float) -> None:
    assert low <= scored(text, **fields) <= high


def test_what_counts_is_the_conversation_and_its_last_question() -> None:
    asked = {"role": "user", "content": HARD}
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    thanked = {"role": "user", "content": [{"type": "text", "text": "Thanks!"}, image]}
    chat = {
        "messages": [
            {"role": "system", "content": "Be brief."},
            asked,
            {"role": "assistant", "content": "Done."},
            thanked,
        ]
    }
    characters = len("Be brief.") + len(HARD) + len("Done.") + len("Thanks!")
    assert facts_of(chat) == Facts(length=characters, turns=2, files=1)


@given(facts)
def test_the_weakest_that_is_strong_enough_is_first_and_stronger_ones_follow(counted: Facts) -> None:
    asks = complexity(counted).score
    order = [each.model for each in ordered("complexity", [LARGE, SMALL, MIDDLE], Asked(facts=counted), {}, 0.5)]
    if asks <= 0.2:
        assert order == [QWEN, GPT, CLAUDE]
    elif asks <= 0.5:
        assert order == [GPT, CLAUDE, QWEN]
    else:
        assert order == [CLAUDE, GPT, QWEN]


@given(facts)
def test_what_is_recorded_gives_the_same_again(counted: Facts) -> None:
    made = chosen(Virtual("auto", "complexity", (SMALL, MIDDLE, LARGE)), "digest", Asked(facts=counted), {}, 0.5)
    recorded = orjson.loads(orjson.dumps(made.inputs))
    assert decided_again(recorded) == made.candidates
    assert told_again(recorded) == {"complexity": recorded["complexity"]}


async def test_requests_go_to_their_tier_and_the_log_says_why(tmp_path: Path) -> None:
    async with routed(tmp_path, table("auto", "complexity", TIERS)) as client:
        assert [(await client.ask(content=text)).text for text in ("hi", CODE)] == ["ollama", "openai"]
        answer = await client.ask(content=HARD)
        inputs = (await client.event(answer, "route_selected"))["inputs"]
        assert answer.text == "anthropic"
        assert inputs["complexity"]["score"] > 0.5
        assert {"length", "reasoning", "maths"} <= inputs["complexity"]["parts"].keys()
        assert inputs["asked"]["facts"]["reasoning"] == 3
    log = tmp_path / "logs"
    assert found(log, decisions=True) == 0
    for lied in (score, parts, length):
        forged = altered(log, tmp_path / lied.__name__, "route_selected", lied)
        assert found(forged, decisions=False) == 0
        assert found(forged, decisions=True) == 1


def score(inputs: dict[str, Any]) -> None:
    inputs["complexity"]["score"] = 0.0


def parts(inputs: dict[str, Any]) -> None:
    inputs["complexity"]["parts"]["length"] = 0.2


def length(inputs: dict[str, Any]) -> None:
    inputs["asked"]["facts"]["length"] = 10**6
