"""Metrics as a scraper reads them: parsed by prometheus-client's own parser."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from projections.exposition import Gauges, render
from projections.metrics import MODELS
from tests.projections.given import given, given_log
from tests.projections.ledger import START, Ledger
from tests.projections.stories import (
    answered,
    broke,
    did_not,
    everything,
    failed,
    generated,
    interrupted,
    ran,
    received,
    rejected,
    started,
)

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(log: Ledger, gauges: Gauges) -> Samples:
    with given_log(log).rows() as rows:
        text = render(rows, gauges).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((f"abstractcore_{name}", frozenset(labels.items())))


NOW = Gauges(now=START + 61_000_000, log_position=100, relay_lag=3)


def test_counts_tokens_cost_and_outcomes() -> None:
    samples = scrape(everything(), NOW)
    qwen = {"provider": "ollama", "model": "qwen3-coder:30b"}
    assert value(samples, "requests_total", outcome="completed", **qwen) == 4
    assert value(samples, "requests_total", outcome="rejected", provider="", model="") == 2
    assert value(samples, "tokens_total", kind="input", **qwen) == 62
    assert value(samples, "tokens_total", kind="input_cached", **qwen) == 4
    assert value(samples, "tokens_total", kind="output", **qwen) == 32
    assert value(samples, "cost_usd_total", **qwen) == 0.003580000007
    assert value(samples, "unpriced_generations_total", **qwen) == 1
    assert value(samples, "generation_failures_total", provider="ollama", kind="connect_failed") == 2


def test_errors_have_a_fault_domain() -> None:
    log = Ledger()
    log.add(received("r1"), started("r1"), broke("r1"), failed("r1"), rejected("r2"), received("r3"), interrupted("r3"))
    samples = scrape(log, NOW)
    domains = {
        domain: value(samples, "errors_total", fault_domain=domain) for domain in ("provider", "caller", "gateway")
    }
    assert domains == {"provider": 1, "caller": 1, "gateway": 1}


def test_histograms_are_cumulative() -> None:
    log = Ledger()
    for number, milliseconds in enumerate((40.0, 50.0, 120.0, 10_000_000.0)):
        log.add(received(f"r{number}"), started(f"r{number}"), generated(f"r{number}", ttft_ms=milliseconds))
    samples = scrape(log, NOW)
    name = "time_to_first_token_seconds"
    counts = [
        value(samples, f"{name}_bucket", provider="ollama", le=le) for le in ("0.05", "0.1", "0.25", "600.0", "+Inf")
    ]
    assert counts == [2, 2, 3, 3, 4]
    assert value(samples, f"{name}_sum", provider="ollama") == 10_000.21
    assert value(samples, f"{name}_count", provider="ollama") == 4


def test_overhead_and_upstream_latency() -> None:
    log = Ledger()
    log.add(*answered("r"))
    samples = scrape(log, NOW)
    assert value(samples, "overhead_seconds_sum") == 0.00325
    assert value(samples, "upstream_duration_seconds_sum", provider="ollama") == 0.81225


def test_tools_by_how_they_ended_and_how_long_they_took() -> None:
    log = Ledger()
    log.add(ran("tide", 120.0), ran("tide", 40.0), ran("moon", 1.0))
    log.add(did_not("tide", "timeout", 60_000.0), did_not("tide", "bad_arguments", None))
    samples = scrape(log, NOW)
    counts = [value(samples, "tool_calls_total", tool="tide", outcome=o) for o in ("completed", "timeout")]
    assert counts == [2, 1]
    assert value(samples, "tool_calls_total", tool="tide", outcome="bad_arguments") == 1
    assert value(samples, "tool_calls_total", tool="moon", outcome="completed") == 1
    assert value(samples, "tool_duration_seconds_count", tool="tide") == 3, "what was not run took no time"
    assert value(samples, "tool_duration_seconds_sum", tool="tide") == 60.16


def test_tools_are_bounded_too_and_take_no_model_s_place() -> None:
    log = Ledger()
    log.add(*(ran(f"tool{number}", 1.0) for number in range(MODELS + 3)))
    log.add(received("r"), generated("r"))
    samples = scrape(log, NOW)
    assert value(samples, "tool_calls_total", tool="other", outcome="completed") == 3
    assert value(samples, "tokens_total", provider="ollama", model="qwen3-coder:30b", kind="output") == 7


def test_gauges() -> None:
    log = Ledger()
    log.add(received("r1"), received("r2"))
    extra = {"abstractcore_streams": ("Open streams.", 2.0)}
    samples = scrape(log, Gauges(now=START + 61_000_000, log_position=12, relay_lag=3, extra=extra))
    assert value(samples, "open_requests") == 2
    assert value(samples, "oldest_open_request_age_seconds") == 60.999
    assert value(samples, "log_position") == 12
    assert value(samples, "relay_lag_events") == 3
    assert value(samples, "projection_lag", projection="usage") == 10
    assert value(samples, "projection_halted", projection="usage") == 0
    assert value(samples, "streams") == 2


def test_labels_stay_bounded_whatever_clients_ask_for() -> None:
    log = Ledger()
    for number in range(MODELS + 50):
        log.add(received(f"r{number}"), generated(f"r{number}", model=f'model\n"{number}'))
    samples = scrape(log, NOW)
    models = {dict(labels)["model"] for name, labels in samples if name == "abstractcore_cost_usd_total"}
    assert len(models) == MODELS + 1
    assert value(samples, "tokens_total", provider="ollama", model="other", kind="output") == 50 * 7


def test_an_empty_log_has_a_page_too() -> None:
    with given().rows() as rows:
        assert b"abstractcore_open_requests 0.0" in render(rows, NOW)
