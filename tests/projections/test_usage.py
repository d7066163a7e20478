"""The cost report: what counts, once, exactly, between any two moments."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given as examples
from hypothesis import settings
from hypothesis import strategies as st

from eventstore.catalogue.values import Usd, dumps
from projections.usage import HOUR, GroupBy, read_by, usage_report
from tests.projections.given import given, given_log
from tests.projections.ledger import START, Ledger
from tests.projections.stories import (
    MODEL,
    answered,
    broke,
    completed,
    everything,
    generated,
    received,
    started,
    usd,
)


def report(log: Ledger, **asked: Any) -> dict[str, Any]:
    with given_log(log).rows() as rows:
        return usage_report(rows, **asked)


def test_the_shape_of_the_report() -> None:
    with given(*answered("r1"), *answered("r2")).rows() as rows:
        text = dumps(usage_report(rows))
    figures = (
        '"requests":2,"attempts":2,"tokens_input":24,"tokens_input_cached":0,"tokens_output":14,'
        '"cost_usd":0.00232,"requests_unpriced":0'
    )
    group = '{"provider":"ollama","model":"qwen3-coder:30b",' + figures + "}"
    assert text.decode() == '{"data":[' + group + '],"total":{' + figures + '},"position":10}'


def test_an_empty_log_costs_nothing() -> None:
    assert report(Ledger())["data"] == []
    assert report(Ledger())["total"]["cost_usd"] == Usd(0)


@pytest.mark.parametrize(
    ("group_by", "groups"),
    [
        ("model", [{"provider": "anthropic", "model": "claude"}, {"provider": "ollama", "model": MODEL}]),
        ("provider", [{"provider": "anthropic"}, {"provider": "ollama"}]),
        ("key", [{"key": "anonymous"}, {"key": "key-1"}]),
        ("session", [{"session_id": None}, {"session_id": "s1"}]),
        ("day", [{"day": "2026-11-21"}, {"day": "2026-11-22"}]),
    ],
)
def test_groups(group_by: GroupBy, groups: list[dict[str, Any]]) -> None:
    found = report(everything(), group_by=group_by)
    assert [{name: row[name] for name in groups[0]} for row in found["data"]] == groups
    for figure in ("requests", "attempts", "tokens_input", "tokens_output", "cost_usd", "requests_unpriced"):
        assert sum(row[figure] for row in found["data"]) == found["total"][figure]


def tagged() -> Ledger:
    """Three teams' requests: one of them retried, one untagged, one tagged otherwise."""
    log = Ledger()
    log.add(*answered("r1", tags={"team": "core", "env": "prod"}, subject="user-1"))
    log.add(received("r2", tags={"team": "core"}, subject="user-2"), started("r2"), broke("r2", tokens_input=9))
    log.add(started("r2", 2), generated("r2", 2), completed("r2", attempts=2))
    log.add(*answered("r3", tags={"team": "docs", "env": ""}, subject="user-1"))
    log.add(*answered("r4", tags={"x": '"team"'}), *answered("r5"))
    return log


def test_groups_by_a_tag() -> None:
    found = report(tagged(), group_by="tag", tag="team")
    counts = [(row["tag"], row["requests"], row["attempts"], row["cost_usd"].decimal()) for row in found["data"]]
    assert counts == [(None, 2, 2, "0.00232"), ("core", 2, 3, "0.00232"), ("docs", 1, 1, "0.00116")]
    assert found["total"] == report(tagged())["total"]
    assert [row["tag"] for row in report(tagged(), group_by="tag", tag="te'am")["data"]] == [None]
    assert [row["tag"] for row in report(tagged(), group_by="tag", tag="x")["data"]] == [None, '"team"']


def test_groups_by_whose_the_requests_are() -> None:
    found = report(tagged(), group_by="subject")
    assert [(row["subject"], row["requests"]) for row in found["data"]] == [
        ("anonymous", 2),
        ("user-1", 2),
        ("user-2", 1),
    ]


@pytest.mark.parametrize("asked", [{"group_by": "tag", "tag": "team"}, {"group_by": "subject"}])
def test_a_group_of_requests_is_of_the_same_span_and_pages(asked: dict[str, Any]) -> None:
    log, edge = tagged(), START + 3
    for span in ({"since": edge}, {"until": edge}, {"since": START, "until": START}):
        assert report(log, **span, **asked)["total"] == report(log, **span)["total"]
    whole = report(log, **asked)
    pages, after = [], None
    while page := report(log, **asked, limit=1, after=after)["data"]:
        pages += page
        after = page[-1].get("tag", page[-1].get("subject")) or ""
    assert pages == whole["data"]


def test_a_report_says_how_far_all_are_that_it_reads() -> None:
    log = tagged()
    assert report(log, group_by="tag", tag="team")["position"] == log.head()
    assert (read_by("tag"), read_by("subject"), read_by("day")) == (("usage", "requests"),) * 2 + (("usage",),)


def test_an_unknown_group_is_refused() -> None:
    with pytest.raises(ValueError, match="group_by must be one of model, provider, key, session, day, subject, tag"):
        report(Ledger(), group_by="weather")


def test_groups_page() -> None:
    log = Ledger()
    for number in range(5):
        log.add(*answered(f"r{number}", key=f"key-{number}"))
    first = report(log, group_by="key", limit=2)
    second = report(log, group_by="key", limit=9, after=first["data"][-1]["key"])
    assert [row["key"] for row in first["data"] + second["data"]] == [f"key-{number}" for number in range(5)]
    assert first["total"] == second["total"]


def test_a_retried_request_counts_once_and_all_its_attempts_cost() -> None:
    log = Ledger()
    log.add(received("r"), started("r"), broke("r", tokens_input=9, tokens_output=3, cost_usd=usd("0.000000000007")))
    log.add(started("r", 2), generated("r", 2), completed("r", attempts=2))
    total = report(log)["total"]
    assert (total["requests"], total["attempts"], total["tokens_input"]) == (1, 2, 21)
    assert total["cost_usd"].decimal() == "0.001160000007"


def test_a_refused_attempt_that_used_nothing_is_not_unpriced() -> None:
    log = Ledger()
    log.add(received("r"), started("r"), broke("r"))
    assert report(log)["total"] | {"cost_usd": 0} == {
        "requests": 1, "attempts": 1, "tokens_input": 0, "tokens_input_cached": 0, "tokens_output": 0, "cost_usd": 0,
        "requests_unpriced": 0,
    }  # fmt: skip


def test_more_than_nine_million_dollars_add_up() -> None:
    """63 bits of 1e-12 USD end there."""
    log, most = Ledger(), usd("10000")
    for number in range(1_000):
        log.add(received(f"r{number}"), generated(f"r{number}", cost_usd=most))
        log.now += 60_000_000  # an hour's row holds as much as a sum
    log.add(received("small"), generated("small", cost_usd=usd("0.000000000001")))
    found = report(log)
    assert found["total"]["cost_usd"].decimal() == "10000000.000000000001"
    assert found["data"][0]["cost_usd"] == found["total"]["cost_usd"]


def test_without_any_price_the_cost_is_unknown() -> None:
    log = Ledger()
    log.add(received("r"), started("r"), broke("r", tokens_output=3, began=True), started("r", 2))
    log.add(generated("r", 2, cost_usd=None))
    total = report(log)["total"]
    assert (total["cost_usd"], total["requests_unpriced"], total["requests"]) == (None, 1, 1)


def test_what_has_a_price_is_summed_and_the_rest_is_named() -> None:
    log = Ledger()
    log.add(*answered("r1"), received("r2"), started("r2"), generated("r2", cost_usd=None))
    total = report(log)["total"]
    assert (total["cost_usd"].decimal(), total["requests_unpriced"], total["requests"]) == ("0.00116", 1, 2)


@settings(max_examples=60, deadline=None)
@examples(st.data())
def test_any_span_is_exact(data: st.DataObject) -> None:
    log = _over_hours()
    edges = st.integers(START - 2 * HOUR, START + 6 * HOUR) | st.sampled_from([row.at for row in log.rows])  # type: ignore[union-attr]  # all are events
    since, until = data.draw(st.none() | edges), data.draw(st.none() | edges)
    total = _REPORTS(since, until)["total"]
    inside = [
        row
        for row in log.rows
        if row.type == "generation_completed"  # type: ignore[union-attr]  # likewise
        and (since is None or row.at >= since)  # type: ignore[union-attr]
        and (until is None or row.at < until)  # type: ignore[union-attr]
    ]
    assert (total["requests"], total["cost_usd"]) == (len(inside), len(inside) * usd("0.00116"))


def _over_hours() -> Ledger:
    log = Ledger()
    for number in range(24):
        log.add(*answered(f"r{number}"))
        log.now += 13 * 60_000_000
    return log


class _Reports:
    """Reports over one database: made once for all examples."""

    def __init__(self) -> None:
        self._rows: Any = None

    def __call__(self, since: int | None, until: int | None) -> dict[str, Any]:
        if self._rows is None:
            self._context = given_log(_over_hours()).rows()
            self._rows = self._context.__enter__()
        return usage_report(self._rows, since=since, until=until)


_REPORTS = _Reports()


def test_a_million_cheap_calls_add_up_without_floats() -> None:
    tenth = dumps({"cost": usd("0.1")})
    assert orjson.loads(tenth)["cost"] == 0.1
    log = Ledger()
    for number in range(30):
        log.add(received(f"r{number}"), generated(f"r{number}", cost_usd=usd("0.1")))
    assert report(log)["total"]["cost_usd"].decimal() == "3"
