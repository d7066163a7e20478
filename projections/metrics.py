"""Counters and histograms of everything that ever ended, folded from the log; shown as Prometheus text by `exposition`.

Every value is a whole number (tokens, microseconds, 1e-12 USD), so that batches of any size add up to the same.
Labels are bounded: words of the catalogue, configured providers, the first `MODELS` models of each provider, and as
many tools.
"""

from __future__ import annotations

import json
import sqlite3
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from eventstore.catalogue.request import TERMINAL
from eventstore.envelope import RecordedEvent
from projections.events import money, newest
from projections.projection import Rows

MODELS = 200
"""Models of one provider that have labels of their own, and tools; those that come later are `other`."""
_TOOLS = ""
"""What stands for tools where providers do: no provider has that name."""
SUM = -1
"""The `part` of a counter's value, and of a histogram's sum; parts from 0 are its buckets' own counts."""

CREATE = (
    """
    CREATE TABLE IF NOT EXISTS metrics (
        name    TEXT NOT NULL,
        labels  TEXT NOT NULL,     -- JSON array of values, in the order of the metric's label names
        part    INTEGER NOT NULL,
        value   INTEGER NOT NULL,
        PRIMARY KEY (name, labels, part)
    ) WITHOUT ROWID""",
    """
    CREATE TABLE IF NOT EXISTS metrics_models (
        provider  TEXT NOT NULL,
        model     TEXT NOT NULL,
        PRIMARY KEY (provider, model)
    ) WITHOUT ROWID""",
)

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
_OVERHEAD = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
MICRO, PICO, ONE = 10**6, 10**12, 1


@dataclass(frozen=True, slots=True)
class Metric:
    """One family. `scale` divides the stored whole numbers; `bounds` (seconds) makes it a histogram."""

    name: str
    help: str
    labels: tuple[str, ...]
    scale: int = ONE
    bounds: tuple[float, ...] = ()


REQUESTS = Metric(
    "abstractcore_requests", "Requests that ended, by outcome (provider and model empty if none was called).",
    ("outcome", "provider", "model"),
)  # fmt: skip
TOKENS = Metric(
    "abstractcore_tokens", "Tokens of all attempts; input includes input_cached.", ("provider", "model", "kind")
)
COST = Metric("abstractcore_cost_usd", "Cost of all attempts, as booked.", ("provider", "model"), PICO)
UNPRICED = Metric(
    "abstractcore_unpriced_generations",
    "Generations that used something and have no known price.",
    ("provider", "model"),
)
ERRORS = Metric(
    "abstractcore_errors", "Requests that failed, were rejected or interrupted, by whose fault.", ("fault_domain",)
)
FAILURES = Metric("abstractcore_generation_failures", "Upstream attempts that failed, by why.", ("provider", "kind"))
FIRST_TOKEN = Metric(
    "abstractcore_time_to_first_token_seconds", "From the upstream call to its first content.",
    ("provider",), MICRO, _SECONDS,
)  # fmt: skip
UPSTREAM = Metric(
    "abstractcore_upstream_duration_seconds", "From the upstream call to the end of its answer.",
    ("provider",), MICRO, _SECONDS,
)  # fmt: skip
OVERHEAD = Metric(
    "abstractcore_overhead_seconds", "The gateway's own share of a request's duration.", (), MICRO, _OVERHEAD
)
TOOL_CALLS = Metric(
    "abstractcore_tool_calls", "Calls of tools that ended, by outcome: completed, or why not.", ("tool", "outcome")
)
TOOL_DURATION = Metric(
    "abstractcore_tool_duration_seconds", "From the start of a tool to its result or failure, its wait for room too.",
    ("tool",), MICRO, _SECONDS,
)  # fmt: skip
METRICS = (
    REQUESTS, TOKENS, COST, UNPRICED, ERRORS, FAILURES, FIRST_TOKEN, UPSTREAM, OVERHEAD, TOOL_CALLS, TOOL_DURATION
)  # fmt: skip

_TOOL_ENDS = frozenset({"tool_completed", "tool_failed"})
_ADD = "INSERT INTO metrics VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value"


class Metrics:
    """Folds ended attempts, tools and requests into counters."""

    name: ClassVar[str] = "metrics"
    version: ClassVar[int] = 2  # 2: tools
    handles: ClassVar[frozenset[str]] = TERMINAL | _TOOL_ENDS | {"generation_completed", "generation_failed"}

    def create(self, rows: Rows) -> None:
        """Make the tables, if they are not there."""
        for statement in CREATE:
            rows.execute(statement)

    def truncate(self, rows: Rows) -> None:
        """Drop them."""
        for table in ("metrics", "metrics_models"):
            rows.execute(f"DROP TABLE IF EXISTS {table}")

    def apply(self, events: Sequence[RecordedEvent], rows: Rows) -> None:
        """Fold the next events: add up in memory, then one statement for every value that changed."""
        models = _Models(rows)
        sums = _Sums()
        for event in events:
            body = newest(event)
            if event.type in TERMINAL:
                _request_ended(event.type, body, models, sums)
            elif event.type in _TOOL_ENDS:
                _tool_ended(body, models, sums)
            else:
                _generation_ended(event.type, body, models, sums)
        models.keep()
        rows.executemany(_ADD, sums.rows())


class _Sums:
    """What a batch adds."""

    def __init__(self) -> None:
        self._values: Counter[tuple[str, tuple[str, ...], int]] = Counter()

    def add(self, metric: Metric, labels: tuple[str, ...], value: int = 1) -> None:
        self._values[metric.name, labels, SUM] += value

    def observe(self, metric: Metric, labels: tuple[str, ...], milliseconds: float | None) -> None:
        if milliseconds is None:
            return
        self._values[metric.name, labels, SUM] += round(milliseconds * 1000)
        self._values[metric.name, labels, bisect_left(metric.bounds, milliseconds / 1000)] += 1

    def rows(self) -> list[tuple[str, str, int, int]]:
        return [
            (name, json.dumps(labels, ensure_ascii=False), part, value)
            for (name, labels, part), value in self._values.items()
        ]


class _Models:
    """Which models, and which tools, have labels of their own."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._known: dict[str, set[str]] = {}
        self._new: list[tuple[str, str]] = []

    def label(self, provider: str | None, model: str | None) -> tuple[str, str]:
        """(provider, model) as labels; both empty where the request reached no provider."""
        if not provider or not model:
            return provider or "", ""
        return provider, self._bounded(provider, model)

    def tool(self, name: str) -> str:
        """A tool as a label."""
        return self._bounded(_TOOLS, name)

    def _bounded(self, provider: str, model: str) -> str:
        known = self._known.get(provider)
        if known is None:
            found = self._rows.execute("SELECT model FROM metrics_models WHERE provider = ?", (provider,))
            known = self._known[provider] = {row[0] for row in found}
        if model in known:
            return model
        if len(known) >= MODELS:
            return "other"
        known.add(model)
        self._new.append((provider, model))
        return model

    def keep(self) -> None:
        self._rows.executemany("INSERT INTO metrics_models VALUES (?, ?)", self._new)


_Kind = Literal["input", "input_cached", "output"]
_TOKENS: tuple[tuple[_Kind, str], ...] = (
    ("input", "tokens_input"),
    ("input_cached", "tokens_input_cached"),
    ("output", "tokens_output"),
)


def _generation_ended(kind: str, body: dict[str, Any], models: _Models, sums: _Sums) -> None:
    provider, model = labels = models.label(body["provider"], body["model"])
    for word, name in _TOKENS:
        if body.get(name):
            sums.add(TOKENS, (provider, model, word), body[name])
    cost = money(body["cost_usd"])
    if cost is not None:
        sums.add(COST, labels, cost)
    elif kind == "generation_completed" or body["tokens_input"] or body["tokens_output"]:
        sums.add(UNPRICED, labels)
    if kind == "generation_failed":
        sums.add(FAILURES, (provider, body["kind"]))
    else:
        sums.observe(UPSTREAM, (provider,), body["duration_ms"])
        sums.observe(FIRST_TOKEN, (provider,), body.get("ttft_ms"))


def _tool_ended(body: dict[str, Any], models: _Models, sums: _Sums) -> None:
    tool = models.tool(body["tool_name"])
    sums.add(TOOL_CALLS, (tool, body.get("kind", "completed")))
    sums.observe(TOOL_DURATION, (tool,), body.get("duration_ms"))


def _request_ended(kind: str, body: dict[str, Any], models: _Models, sums: _Sums) -> None:
    rejected = kind == "request_rejected"
    labels = ("", "") if rejected else models.label(body.get("provider"), body.get("model"))
    sums.add(REQUESTS, (kind.removeprefix("request_"), *labels))
    sums.observe(OVERHEAD, (), body.get("overhead_ms"))
    if kind == "request_interrupted":
        sums.add(ERRORS, ("gateway",))
    elif "fault_domain" in body:
        sums.add(ERRORS, (body["fault_domain"],))


def requests_ended(rows: sqlite3.Connection) -> dict[str, int]:
    """How many requests ended in each way, over all of the log."""
    sql = "SELECT json_extract(labels, '$[0]'), sum(value) FROM metrics WHERE name = ? AND part = ? GROUP BY 1"
    return {outcome: int(count) for outcome, count in rows.execute(sql, (REQUESTS.name, SUM))}
