"""`abstractcore_TIMESTAMP.log`: what happened, as structured lines without content; one line for each notable event.

A line is `{"timestamp", "level", "event", …fields}`, with level `info`, `warning` or `error`. The fields of each event
are listed here; none of them carries what people or models said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from eventstore.envelope import RecordedEvent
from projections.events import newest
from projections.files import json_line
from projections.projection import Source
from projections.received import started_stamp

_ATTEMPT = ("request_id", "attempt", "provider", "model")
_USED = ("tokens_input", "tokens_output", "cost_usd", "duration_ms", "ttft_ms")
_TOOL = ("request_id", "attempt", "tool_name", "call_id")
_ENDED = ("request_id", "provider", "model", "status", "attempts", "duration_ms", "overhead_ms", "cost_usd")

SHOWN: dict[str, tuple[str, tuple[str, ...]]] = {
    "node_started": ("info", ("node", "release")),
    "node_stopped": ("info", ("node", "reason", "open_requests")),
    "price_published": ("info", ("provider", "source", "table")),
    "request_received": (
        "info",
        ("request_id", "endpoint", "model", "key", "session_id", "stream_answer", "body_length"),
    ),
    "route_selected": ("info", ("request_id", "provider", "model", "reason", "ignored")),
    "generation_started": ("info", _ATTEMPT),
    "hedge_started": ("info", (*_ATTEMPT, "after_ms")),
    "generation_completed": ("info", (*_ATTEMPT, "finish_reason", *_USED)),
    "generation_failed": ("error", (*_ATTEMPT, "kind", "fault_domain", "status", "code", "message", *_USED)),
    "tool_called": ("info", (*_ATTEMPT, "tool_name", "call_id")),
    "tool_started": ("info", (*_TOOL, "key")),
    "tool_completed": ("info", (*_TOOL, "duration_ms", "length", "cut")),
    "tool_failed": ("warning", (*_TOOL, "kind", "duration_ms")),
    "tool_registered": ("info", ("tool_name", "key", "endpoint")),
    "tool_removed": ("info", ("tool_name", "key")),
    "request_completed": ("info", _ENDED),
    "request_failed": ("error", (*_ENDED, "fault_domain", "error")),
    "request_rejected": ("warning", ("request_id", "endpoint", "model", "key", "status", "fault_domain", "error")),
    "request_cancelled": ("warning", (*_ENDED, "reason")),
    "request_interrupted": ("error", (*_ENDED, "reason", "incarnation")),
}
"""Event type -> its level and the fields of its line."""

QUIET = {"client_left": "warning", "stopped": "warning", "hedge_lost": "info"}
"""Kinds of `generation_failed` that are nobody's error."""


class ServerLog:
    """Notable events as lines."""

    name: ClassVar[str] = "serverlog"
    version: ClassVar[int] = 1
    handles: ClassVar[frozenset[str]] = frozenset(SHOWN)
    patterns: ClassVar[tuple[str, ...]] = ("abstractcore_[0-9]*_[0-9]*.log",)

    def lines(
        self, events: Sequence[RecordedEvent], state: dict[str, Any], source: Source
    ) -> Sequence[tuple[str, bytes]]:
        """One line for each event."""
        return [(f"abstractcore_{started_stamp(event, state)}.log", json_line(_line(event))) for event in events]


def _line(event: RecordedEvent) -> dict[str, Any]:
    body = newest(event)
    level, names = SHOWN[event.type]
    if event.type == "generation_failed":
        level = QUIET.get(body["kind"], level)
    elif event.type == "request_rejected" and body["fault_domain"] == "gateway":
        level = "error"
    line = {"timestamp": body["time"], "level": level, "event": event.type}
    return line | {name: body[name] for name in names if name in body}
