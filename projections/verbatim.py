"""`verbatim_TIMESTAMP.jsonl`: what was asked and what was answered, whole; one line for each ended upstream attempt.

A line is `{"timestamp", "request_id", "attempt", "provider", "model", "prompt", "response", "error", "metadata"}`.
`model` is without its provider. `prompt` is the request's messages (or `prompt`, or `input`), with `system`,
`instructions` and `tools` beside it where the request has them, or its `query`, with `documents`; `response` is the
list of choices. Neither is there where the request forbade to keep content, and no prompt where it went with history
that was dropped. `error` is there where the attempt failed. `metadata.tokens` is always there: `{"input",
"input_cached", "output"}`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from eventstore.envelope import RecordedEvent
from projections.events import newest
from projections.files import json_line
from projections.projection import Source
from projections.received import ReceivedRequests, started_stamp, whole_body

_PROMPTS = ("messages", "prompt", "input")
_BESIDE = ("system", "instructions", "tools")
_METADATA = (
    "finish_reason", "usage_source", "cost_usd", "price_rule", "duration_ms", "ttft_ms", "frames", "provider_model",
)  # fmt: skip
_ERROR = ("kind", "message", "fault_domain", "status", "code")


class Verbatim:
    """Ended attempts as lines."""

    name: ClassVar[str] = "verbatim"
    version: ClassVar[int] = 1
    handles: ClassVar[frozenset[str]] = frozenset(
        {"node_started", "request_received", "generation_completed", "generation_failed"}
    )
    patterns: ClassVar[tuple[str, ...]] = ("verbatim_[0-9]*_[0-9]*.jsonl",)

    def lines(
        self, events: Sequence[RecordedEvent], state: dict[str, Any], source: Source
    ) -> Sequence[tuple[str, bytes]]:
        """One line for each ended attempt."""
        received = ReceivedRequests(events, source)
        found = []
        for event in events:
            started = started_stamp(event, state)
            if event.type.startswith("generation_"):
                line = json_line(_line(event, received.of(event), source))
                found.append((f"verbatim_{started}.jsonl", line))
        return found


def _line(event: RecordedEvent, received: dict[str, Any], source: Source) -> dict[str, Any]:
    body = newest(event)
    line: dict[str, Any] = {
        "timestamp": body["time"],
        "request_id": body["request_id"],
        "attempt": body["attempt"],
        "provider": body["provider"],
        "model": body["model"],
    }
    line |= _prompt(whole_body(received, source))
    if body.get("choices") is not None:
        line["response"] = body["choices"]
    if event.type == "generation_failed":
        line["error"] = _present(body, _ERROR)
    line["metadata"] = {"tokens": _tokens(body), **_present(body, _METADATA)}
    return line


def _prompt(asked: dict[str, Any] | None) -> dict[str, Any]:
    if asked is None:
        return {}
    name = next((name for name in _PROMPTS if name in asked), None)
    if name is None and "query" in asked:
        return {"prompt": asked["query"], **_present(asked, ("documents",))}
    return {"prompt": asked[name] if name else None, **_present(asked, _BESIDE)}


def _tokens(body: dict[str, Any]) -> dict[str, int]:
    return {
        "input": body["tokens_input"],
        "input_cached": body.get("tokens_input_cached", 0),
        "output": body["tokens_output"],
    }


def _present(values: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}
