"""Decide again, from what was recorded with each decision, where a virtual model led and what followed a failed
attempt, and compare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from eventstore.envelope import RecordedEvent
from eventstore.reader import Reader
from eventstore.verify import Finding
from gateway.exchange.resilience import Step, decided_again
from gateway.routing import chosen

ROUTE = "route_selected"
DECISIONS = frozenset({"retry_attempted", "fallback_selected", "retry_exhausted", ROUTE})


def check_decisions(reader: Reader, until: int) -> Iterator[Finding]:
    """A finding for each decision that its own inputs do not give."""
    for row in reader.rows(until=until):
        if isinstance(row, RecordedEvent) and row.type in DECISIONS and "draw" in row.body["inputs"]:
            try:
                problem = _problem(row.type, row.body)
            except (KeyError, TypeError, ValueError) as error:
                problem = f"cannot be decided again: {error!r}"
            if problem is not None:
                yield Finding(row.position, f"{row.type} {problem}")


def _problem(kind: str, body: Mapping[str, Any]) -> str | None:
    if kind == ROUTE:
        return _routed(body)
    step, skipped = decided_again(body["inputs"]), body.get("skipped") or {}
    if kind == "retry_exhausted":
        return None if step is None or _all_skipped(step, body["inputs"], skipped) else "stands where more was allowed"
    if step is None:
        return "stands where nothing more was allowed"
    if kind == "retry_attempted":
        same = step.to is None and step.delay_s == body["delay_s"]
        return None if same else f"was decided as {body['delay_s']} s, and is {step.delay_s} s to {step.to} again"
    return _fallen(step, body, skipped)


def _routed(body: Mapping[str, Any]) -> str | None:
    inputs = body["inputs"]
    candidates = chosen.decided_again(inputs)
    said, first = [candidate.said() for candidate in candidates], f"{body['provider']}/{body['model']}"
    if said != inputs["candidates"]:
        return f"was decided among {inputs['candidates']}, which are {said} again"
    for name, told in chosen.told_again(inputs).items():
        if told != inputs.get(name):
            return f"says {name} {inputs.get(name)}, which is {told} again"
    again = candidates[0]
    return (
        None if again.skipped is None and again.model == first else f"went to {first}, and goes to {again.model} again"
    )


def _fallen(step: Step, body: Mapping[str, Any], skipped: Mapping[str, str]) -> str | None:
    if step.to is None:
        return "was a fallback, and is a retry again"
    names = body["inputs"]["fallback"][step.to :]
    before, name = names[: len(skipped)], names[len(skipped)]
    if list(skipped) != before or not name.endswith(body["model"]):
        return f"went to {body['provider']}/{body['model']}, and goes to {name} again"
    return None


def _all_skipped(step: Step, inputs: Mapping[str, Any], skipped: Mapping[str, str]) -> bool:
    return step.to is not None and list(skipped) == list(dict.fromkeys(inputs["fallback"][step.to :]))
