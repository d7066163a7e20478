"""Metrics as Prometheus text, through prometheus-client.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from projections import checkpoint, db
from projections.metrics import METRICS, SUM, Metric
from projections.requests import OpenRequests, open_requests

Parts = dict[tuple[str, ...], dict[int, int]]
"""Labels -> part -> whole number, of one metric."""


@dataclass(frozen=True, slots=True)
class Gauges:
    """What the asker knows at this moment and the log does not say. `now` is microseconds since 1970;
    `log_position` the log's head; `relay_lag` events not yet in NATS (None: no relay); `extra` further gauges, name ->
    (help, value)."""

    now: int
    log_position: int
    relay_lag: int | None = None
    extra: Mapping[str, tuple[str, float]] = field(default_factory=dict)


def render(rows: sqlite3.Connection, gauges: Gauges) -> bytes:
    """The whole page, in text format 0.0.4 (`prometheus_client.CONTENT_TYPE_LATEST`)."""
    with db.snapshot(rows):
        families = [*_families(rows), *_gauges(gauges, open_requests(rows)), *_projection_gauges(rows, gauges)]
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Given(families))
    return generate_latest(registry)


class _Given(Collector):
    """A collector of families that are made already."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Family]:
        return self._families

    def describe(self) -> Iterable[Family]:
        """Nothing: so that registering does not ask for names."""
        return ()


def _families(rows: sqlite3.Connection) -> Iterator[Family]:
    values: dict[str, Parts] = {metric.name: {} for metric in METRICS}
    for name, labels, part, value in rows.execute("SELECT name, labels, part, value FROM metrics ORDER BY 1, 2, 3"):
        values[name].setdefault(tuple(json.loads(labels)), {})[part] = value
    for metric in METRICS:
        yield (_histogram if metric.bounds else _counter)(metric, values[metric.name])


def _counter(metric: Metric, values: Parts) -> Family:
    family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, parts in values.items():
        family.add_metric(labels, parts[SUM] / metric.scale)
    return family


def _histogram(metric: Metric, values: Parts) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    bounds = [*map(_bound, metric.bounds), "+Inf"]
    for labels, parts in values.items():
        counts = accumulate(parts.get(index, 0) for index in range(len(bounds)))
        family.add_metric(labels, list(zip(bounds, counts, strict=True)), parts[SUM] / metric.scale)
    return family


def _bound(seconds: float) -> str:
    return repr(float(seconds))


def _gauges(gauges: Gauges, waiting: OpenRequests) -> Iterator[Family]:
    age = 0.0 if waiting.oldest_at is None else max(0, gauges.now - waiting.oldest_at) / 1e6
    yield GaugeMetricFamily("abstractcore_open_requests", "Requests that have not ended.", waiting.count)
    yield GaugeMetricFamily(
        "abstractcore_oldest_open_request_age_seconds", "Age of the oldest of them; 0 if none.", age
    )
    yield GaugeMetricFamily("abstractcore_log_position", "Position of the log's newest row.", gauges.log_position)
    if gauges.relay_lag is not None:
        yield GaugeMetricFamily(
            "abstractcore_relay_lag_events", "Events that NATS does not have yet.", gauges.relay_lag
        )
    for name, (text, value) in gauges.extra.items():
        yield GaugeMetricFamily(name, text, value)


def _projection_gauges(rows: sqlite3.Connection, gauges: Gauges) -> Iterator[Family]:
    lag = GaugeMetricFamily("abstractcore_projection_lag", "Log positions not yet folded in.", labels=("projection",))
    halted = GaugeMetricFamily(
        "abstractcore_projection_halted", "1 where a projection stopped at an event.", labels=("projection",)
    )
    for name, found in sorted(checkpoint.load(rows).items()):
        lag.add_metric((name,), max(0, gauges.log_position - found.position))
        halted.add_metric((name,), int(found.halted))
    yield lag
    yield halted
