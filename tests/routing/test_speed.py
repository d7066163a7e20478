"""How fast models are, and what requests need: read from what was recorded, and from bodies."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from eventstore.catalogue.generation import GenerationCompleted, GenerationFailed
from gateway.routing.needs import asked_of
from gateway.routing.order import Asked
from gateway.routing.speed import MOST_PER_S, Speed, failed, observed


def completed(tokens: int = 100, took_ms: float = 2000.0, **more: Any) -> GenerationCompleted:
    fields: dict[str, Any] = {
        "request_id": "r", "attempt": 1, "provider": "a", "model": "one", "finish_reason": "stop", "tokens_input": 1,
        "usage": {}, "usage_source": "provider", "cost_usd": None, "frames": 100, "frames_digest": "",
    }  # fmt: skip
    return GenerationCompleted(**{**fields, "tokens_output": tokens, "duration_ms": took_ms, **more})


def test_the_first_answer_counts_whole_and_the_next_a_fifth() -> None:
    first = observed(None, completed(ttft_ms=1000.0))
    assert first == Speed(1000.0, 100.0)
    assert observed(first, completed(ttft_ms=500.0, took_ms=1000.0)) == Speed(900.0, 120.0)


def test_a_whole_answer_says_nothing_of_the_first_token_and_an_empty_one_nothing() -> None:
    whole = observed(None, completed(frames=1, ttft_ms=1900.0))
    assert whole == Speed(None, 50.0)
    assert observed(whole, completed(tokens=0)) == whole
    assert observed(None, completed(took_ms=0.0)) == Speed(None, MOST_PER_S)


def broken(fault: Literal["provider", "caller"]) -> GenerationFailed:
    fields = {name: getattr(completed(), name) for name in ("request_id", "attempt", "provider", "model", "usage")}
    more: dict[str, Any] = {"kind": "upstream_error", "message": "", "tokens_input": 0, "tokens_output": 0, "frames": 0}
    return GenerationFailed(
        **fields, **more, fault_domain=fault, began=False, usage_source="none", cost_usd=None, frames_digest=""
    )


def test_who_fails_falls_behind_by_its_own_fault_alone() -> None:
    assert failed(Speed(100.0, 50.0), broken("provider")) == Speed(100.0, 25.0)
    assert failed(Speed(100.0, 50.0), broken("caller")) == Speed(100.0, 50.0)
    assert failed(None, broken("provider")) == failed(Speed(None, 1.5), broken("provider")) == Speed(None, 1.0)


USER = {"role": "user", "content": "x" * 400}
LONG = 111
"""Tokens of a body that has nothing but this: 441 bytes, a quarter of them rounded up."""


@pytest.mark.parametrize(
    ("more", "needs"),
    [
        ({}, Asked(tokens=LONG)),
        ({"max_tokens": 50}, Asked(tokens=LONG + 4 + 50)),
        ({"tools": [{"type": "function"}]}, Asked(tools=True, tokens=LONG + 8)),
        ({"response_format": {"type": "json_schema"}}, Asked(schema=True, tokens=LONG + 10)),
        ({"response_format": {"type": "text"}}, Asked(tokens=LONG + 9)),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}, USER]}, Asked(images=True, tokens=100)),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}, USER]}, Asked(audio=True, tokens=100)),
    ],
)
def test_what_a_body_needs(more: dict[str, Any], needs: Asked) -> None:
    assert asked_of({"messages": [USER], **more}, hears=True) == needs


def test_sound_that_is_made_text_first_needs_no_ear() -> None:
    assert not asked_of({"messages": [{"content": [{"type": "input_audio"}]}]}, hears=False).audio
