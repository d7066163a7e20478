"""What was said in a turn after the messages that its request brought, from the request's events. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from eventstore.envelope import RecordedEvent
from gateway.wire.responses.sealed import BLOCKS

REMEMBERED = ("role", "content", "refusal", "tool_calls", BLOCKS)
"""Of an answer. What a model thought is not told to it again, since most take no such field back, unless it is signed:
who signed it wants it back."""
ANSWERED = "generation_completed"
TOOL_ENDS = frozenset({"tool_completed", "tool_failed"})


def said(events: Iterable[RecordedEvent]) -> list[dict[str, Any]]:
    """The rounds of tools that the server ran, each as the model was told of it, the calls and their results; and last
    the answer. Empty where there is no whole answer. An answer that another followed without tools was corrected."""
    messages: list[dict[str, Any]] = []
    answer: dict[str, Any] | None = None
    results: list[dict[str, Any]] = []
    for event in events:
        if event.type == ANSWERED and (choices := event.body.get("choices")):
            messages += _round(answer, results)
            answer, results = remembered(choices[0]["message"]), []
        elif event.type in TOOL_ENDS:
            results.append({"role": "tool", "tool_call_id": event.body["call_id"], "content": told(event.body)})
    return [] if answer is None else [*messages, answer]


def _round(answer: dict[str, Any] | None, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A round, its results in the order of their calls; nothing where no tools ran."""
    if answer is None or not results:
        return []
    places = {call.get("id"): place for place, call in enumerate(answer.get("tool_calls") or ())}
    return [answer, *sorted(results, key=lambda result: places.get(result["tool_call_id"], len(places)))]


def told(end: Mapping[str, Any]) -> str:
    """What a model is told of a tool's end, as it was recorded."""
    text: str = end.get("output") or end.get("message") or ""
    return text if end["type"] == "tool_completed" else f"Error: {text}"


def remembered(answer: Mapping[str, Any]) -> dict[str, Any]:
    """An answer as a message of the history."""
    return {name: answer[name] for name in REMEMBERED if answer.get(name) is not None or name in {"role", "content"}}
