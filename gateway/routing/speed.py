"""How fast models answer, as observed: averages in which newer answers weigh more. Pure: a fold of the log's events.

A failure is a slow answer: who fails falls behind, and gets ahead again as it answers.
"""

from __future__ import annotations

from eventstore.catalogue.generation import GenerationCompleted, GenerationFailed
from eventstore.value import value

NEWEST = 0.2
"""What the newest answer weighs; so the last ten or so count."""
MOST_PER_S = 10_000.0
"""Answers that came in one piece have no speed of their own; none is believed to be faster than this."""


SLOWEST_PER_S = 1.0
"""What a model that only ever failed is believed to do."""


@value
class Speed:
    """`ttft_ms`: to the first token of streamed answers, None where there was none yet; then `tokens_per_s`."""

    ttft_ms: float | None
    tokens_per_s: float


def observed(before: Speed | None, completed: GenerationCompleted) -> Speed | None:
    """The averages with one more answer. One without tokens, such as an embedding, says nothing."""
    if completed.tokens_output <= 0:
        return before
    ttft_ms = completed.ttft_ms if completed.frames > 1 else None  # a whole answer is one frame: its first is its last
    took_ms = completed.duration_ms - (ttft_ms or 0.0)
    per_s = min(completed.tokens_output * 1000 / took_ms, MOST_PER_S) if took_ms > 0 else MOST_PER_S
    if before is None:
        return Speed(ttft_ms, round(per_s, 3))
    return Speed(
        _mixed(before.ttft_ms, ttft_ms), round(before.tokens_per_s + NEWEST * (per_s - before.tokens_per_s), 3)
    )


def failed(before: Speed | None, failure: GenerationFailed) -> Speed | None:
    """The averages after an attempt that failed: half as fast, where it was the provider's fault."""
    if failure.fault_domain != "provider":
        return before
    if before is None:
        return Speed(None, SLOWEST_PER_S)
    return Speed(before.ttft_ms, round(max(before.tokens_per_s / 2, SLOWEST_PER_S), 3))


def _mixed(before: float | None, now: float | None) -> float | None:
    if before is None or now is None:
        return now if before is None else before
    return round(before + NEWEST * (now - before), 3)
