"""Prices: the packaged data through the log gives the amounts of the package itself, and only integers on the way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest
from genai_prices import Usage as OracleUsage
from genai_prices import calc_price
from genai_prices.data import providers as oracle_providers
from hypothesis import given
from hypothesis import strategies as st

from eventstore.catalogue.control import PricePublished
from eventstore.catalogue.values import Usage, Usd
from gateway.prices import package
from gateway.prices.cost import cost
from gateway.prices.rules import ModelPrices
from gateway.prices.table import Booked, PriceTable

PROVIDERS = ("anthropic", "deepseek", "google", "groq", "openai", "openrouter", "perplexity")
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def us(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def through_the_log(event: PricePublished) -> PricePublished:
    return PricePublished.of(orjson.loads(event.new().fields))


TABLE = PriceTable.from_events(map(through_the_log, package.missing(PROVIDERS, {})))
MODELS = [
    (provider.id, model.id)
    for provider in oracle_providers
    if provider.id in PROVIDERS
    for model in provider.models
    if TABLE.rule_for(provider.id, model.id, us(NOW)) is not None
]


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    count = st.integers(0, 300_000)
    cached, short, long, spoken, reasoning, said, rest = (draw(count) for _ in range(7))
    return Usage(
        input_tokens=cached + short + long + rest,
        cache_read_tokens=cached,
        cache_write_5m_tokens=short,
        cache_write_1h_tokens=long,
        output_tokens=reasoning + said,
        reasoning_tokens=reasoning,
        web_search_requests=draw(st.integers(0, 20)),
    ) if not draw(st.booleans()) else Usage(
        input_tokens=spoken + rest, input_audio_tokens=spoken, output_tokens=said + rest, output_audio_tokens=said
    )  # fmt: skip


def oracle(provider: str, model: str, usage: Usage, at: datetime, context: dict[str, str] | None = None) -> Decimal:
    asked = OracleUsage(
        input_tokens=usage.input_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
        cache_write_5m_tokens=usage.cache_write_5m_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        output_tokens=usage.output_tokens,
        output_reasoning_tokens=usage.reasoning_tokens,
        input_audio_tokens=usage.input_audio_tokens,
        output_audio_tokens=usage.output_audio_tokens,
        web_searches=usage.web_search_requests,
    )
    return calc_price(
        asked, model, provider_id=provider, genai_request_timestamp=at, price_context=context
    ).total_price  # fmt: skip


@given(
    named=st.sampled_from(MODELS),
    usage=usages(),
    at=st.datetimes(datetime(2024, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)),
    context=st.sampled_from([None, {"service_tier": "flex"}, {"service_tier": "priority"}, {"processing": "batch"}]),
)
def test_amounts_are_the_packages_own_to_1e_12_usd(
    named: tuple[str, str], usage: Usage, at: datetime, context: dict[str, str] | None
) -> None:
    rule = TABLE.rule_for(*named, us(at), context or {})
    assert rule is not None
    assert abs(Decimal(cost(usage, rule)) / 10**12 - oracle(*named, usage, at, context)) <= Decimal("1e-12")


def test_a_price_that_forgets_what_was_cached_is_noticed() -> None:
    usage = Usage(input_tokens=1_000, cache_read_tokens=1)
    rule = TABLE.rule_for("openai", "gpt-4o", us(NOW), {})
    assert rule is not None
    forgotten = cost(Usage(input_tokens=1_000), rule)
    assert abs(Decimal(forgotten) / 10**12 - oracle("openai", "gpt-4o", usage, NOW)) > Decimal("1e-12")


def names(provider: str, model: str) -> tuple[str | None, str | None]:
    """What the package finds, by the name that we would book it under, and what we find."""
    listed = {one.id: one for one in oracle_providers}
    theirs = listed[provider].find_model(model, all_providers=oracle_providers)
    ours = TABLE._find(provider, model)
    own = theirs in listed[provider].models
    sold = [other for other in listed[provider].fallback_model_providers or () if theirs in listed[other].models]
    expected = None if theirs is None else theirs.id if own else f"{sold[0]}:{theirs.id}"
    return expected and f"{provider}/{expected}@{package.table_id()}", ours and ours.name


def test_every_model_of_the_package_is_found_by_the_rule_that_the_package_finds() -> None:
    for provider in oracle_providers:
        for model in provider.models if provider.id in PROVIDERS else ():
            expected, ours = names(provider.id, model.id)
            assert ours == expected


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "GPT-4o"),
        ("openai", "gpt-4o-2024-08-06"),
        ("openai", "gpt-5.2-20251211"),
        ("openai", "gpt-5-99999999"),
        ("anthropic", "claude-3-5-haiku-20241022"),
        ("anthropic", "claude-sonnet-5@20260101"),
        ("openrouter", "anthropic/claude-3.5-sonnet"),
        ("openrouter", "openai/gpt-5.2-20251211"),
        ("google", "claude-opus-5-20260101"),
        ("openai", "no-such-model"),
    ],
)
def test_names_are_matched_as_the_package_matches_them(provider: str, model: str) -> None:
    expected, ours = names(provider, model)
    assert ours == expected


def price_list(**prices: Any) -> PriceTable:
    event = PricePublished(
        provider="p", source="test", table="t-1", rules=[{"id": "m", "match": {"equals": "m"}, "prices": [prices]}]
    )
    return PriceTable.from_events([through_the_log(event)])


def test_each_token_is_charged_once_at_the_price_of_its_own_kind() -> None:
    table = price_list(
        prices={"input_mtok": 3, "cache_read_mtok": Usd.parse("0.3"), "cache_write_mtok": Usd.parse("3.75"),
                "cache_write_1h_mtok": 6, "output_mtok": 15, "web_searches_kcount": 10},
    )  # fmt: skip
    usage = Usage(
        input_tokens=1111, cache_read_tokens=1000, cache_write_5m_tokens=100, cache_write_1h_tokens=10,
        output_tokens=50, reasoning_tokens=40, web_search_requests=2,
    )  # fmt: skip
    by_hand = (1 * 3 + 1000 * 0.3 + 100 * 3.75 + 10 * 6 + 50 * 15) / 1e6 + 2 * 10 / 1000
    booked = table.book(usage, prices="p", model="m", at=0)
    assert booked == Booked(Usd.parse(f"{by_hand:.9f}"), "p/m@t-1")


def test_a_long_prompt_pays_its_tier_for_all_tokens_and_the_tier_is_named() -> None:
    table = price_list(prices={"input_mtok": {"base": 3, "tiers": [{"start": 200, "price": 6}]}, "output_mtok": 15})
    at_the_edge = table.book(Usage(input_tokens=200), prices="p", model="m", at=0)
    past_it = table.book(Usage(input_tokens=201), prices="p", model="m", at=0)
    assert at_the_edge == Booked(Usd.parse("0.0006"), "p/m@t-1")
    assert past_it == Booked(Usd.parse("0.001206"), "p/m@t-1 context>200")


def test_half_of_1e_12_usd_is_rounded_to_even() -> None:
    table = price_list(prices={"input_mtok": Usd(500_000)})
    amounts = [table.book(Usage(input_tokens=n), prices="p", model="m", at=0).cost for n in (1, 2, 3, 5)]
    assert amounts == [0, 1, 2, 2]


def test_usage_that_contradicts_itself_never_makes_a_price_smaller() -> None:
    table = price_list(prices={"input_mtok": 3, "cache_read_mtok": 1})
    contradiction = Usage(input_tokens=10, cache_read_tokens=1000)
    assert table.book(contradiction, prices="p", model="m", at=0).cost == Usd.parse("0.001")


def test_a_price_begins_on_its_day_in_utc() -> None:
    event = PricePublished(
        provider="p", source="test", table="t", rules=[
            {"id": "m", "match": {"contains": "m"}, "prices": [
                {"prices": {"input_mtok": 1}}, {"start_date": "2026-10-12", "prices": {"input_mtok": 2}}]}],
    )  # fmt: skip
    table = PriceTable.from_events([through_the_log(event)])
    midnight = us(datetime(2026, 10, 12, tzinfo=UTC))
    amounts = [
        table.book(Usage(input_tokens=10**6), prices="p", model="m", at=at).cost for at in (midnight - 1, midnight)
    ]
    assert amounts == [Usd.parse(1), Usd.parse(2)]


def model(prices: list[dict[str, Any]], *variants: dict[str, Any]) -> ModelPrices:
    return ModelPrices({"match": {"equals": "m"}, "prices": prices, "variants": variants}, "p/m")


@pytest.mark.parametrize(
    ("begins", "ends", "inside", "outside"),
    [
        ("16:30:00", "00:30:00", ["16:30:00", "23:59:59.999999", "00:00:00", "00:29:59.999999"],
         ["00:30:00", "12:00:00", "16:29:59.999999"]),
        ("08:00:00Z", "20:00:00Z", ["08:00:00", "19:59:59.999999"], ["07:59:59.999999", "20:00:00", "00:00:00"]),
        ("09:00:00+02:00", "10:00:00+02:00", ["07:00:00"], ["06:59:59.999999", "08:00:00", "09:00:00"]),
    ],
)  # fmt: skip
def test_daily_hours_begin_at_their_first_moment_and_are_over_at_their_last(
    begins: str, ends: str, inside: list[str], outside: list[str]
) -> None:
    hours = {"start_time": begins, "end_time": ends, "prices": {"input_mtok": 1}}
    prices = model([{"prices": {"input_mtok": 2}}, hours])

    def price(moment: str) -> int:
        rule = prices.at(us(datetime.fromisoformat(f"2026-11-21T{moment}+00:00")))
        assert rule is not None
        return rule.tier(0).prices.input // 10**12

    assert [price(moment) for moment in inside] == [1] * len(inside)
    assert [price(moment) for moment in outside] == [2] * len(outside)


def test_of_variants_in_force_the_first_has_its_price_and_all_are_named() -> None:
    flex = {"when": {"service_tier": "flex"}, "prices": {"input_mtok": 1, "output_mtok": 2}}
    near = {"when": {"region": "eu"}, "prices": {"input_mtok": 8, "cache_read_mtok": 9}}
    later = {"when": {"region": "eu"}, "start_date": "2026-11-22", "prices": {"output_mtok": 99}}
    prices = model([{"prices": {"input_mtok": 4, "output_mtok": 5}}], flex, near, later)

    def found(**context: str) -> tuple[list[int], str]:
        rule = prices.at(us(NOW), context)
        assert rule is not None
        tier = rule.tier(0)
        amounts = (tier.prices.input, tier.prices.cache_read, tier.prices.output)
        return [amount // 10**12 for amount in amounts], tier.name

    assert found() == ([4, 4, 5], "p/m")
    assert found(service_tier="flex", region="eu") == ([1, 9, 2], "p/m region=eu service_tier=flex")
    assert found(region="eu") == ([8, 9, 5], "p/m region=eu")
    assert found(region="us") == ([4, 4, 5], "p/m")


def test_what_is_not_known_has_no_price() -> None:
    usage = Usage(input_tokens=5)
    assert TABLE.book(usage, prices="openai", model="no-such-model", at=us(NOW)) == Booked(None, None)
    assert TABLE.book(usage, prices="no-such-provider", model="gpt-4o", at=us(NOW)) == Booked(None, None)
    assert TABLE.book(usage, prices=None, model="gpt-4o", at=us(NOW)) == Booked(None, None)


def test_a_model_priced_by_the_hour_only_has_no_price_for_tokens() -> None:
    assert price_list(prices={"audio_hours": 1}).rule_for("p", "m", 0) is None


def test_local_models_cost_nothing_and_say_so() -> None:
    assert TABLE.book(Usage(input_tokens=5), prices=None, model="llama3", at=0, local=True) == Booked(Usd(0), "local")


@pytest.mark.parametrize(("reported", "amount"), [("0.00012345", "0.00012345"), ("0", "0"), ("1e-7", "0.0000001")])
def test_what_the_provider_reports_beats_the_table(reported: str, amount: str) -> None:
    booked = TABLE.book(Usage(input_tokens=5), prices="openai", model="gpt-4o", at=us(NOW), reported=reported)
    assert booked == Booked(Usd.parse(amount), "provider_reported")


@pytest.mark.parametrize("nonsense", ["", "free", "nan", "-1", "Infinity"])
def test_a_report_that_is_no_amount_is_passed_over(nonsense: str) -> None:
    booked = TABLE.book(Usage(input_tokens=5), prices="openai", model="gpt-4o", at=us(NOW), reported=nonsense)
    assert booked.rule == f"openai/gpt-4o@{package.table_id()}"


def test_a_restart_with_the_same_package_publishes_nothing() -> None:
    assert package.missing(PROVIDERS, TABLE.tables) == []


def test_a_new_release_of_the_prices_is_published_and_replaces_the_old_one() -> None:
    known = {**TABLE.tables, "openai": "genai-prices-0.0.1-1"}
    events = package.missing(PROVIDERS, known)
    assert {event.provider for event in events} == {"openai"}
    old = PricePublished(
        provider="openai", source="genai-prices", table="genai-prices-0.0.1-1",
        rules=[{"id": "gone", "match": {"equals": "gone"}, "prices": [{"prices": {"input_mtok": 1}}]}],
    )  # fmt: skip
    table = PriceTable.from_events([old, *events])
    assert table.rule_for("openai", "gone", 0) is None
    assert table.rule_for("openai", "gpt-4o", 0) is not None


def test_a_table_too_large_for_one_event_is_whole_in_several() -> None:
    events = package.published("openrouter")
    sizes = [len(event.new().fields) for event in events]
    assert max(sizes) < 900_000
    in_two = [
        PricePublished(provider=e.provider, source=e.source, table=e.table, rules=part)
        for e in events
        for part in (e.rules[: len(e.rules) // 2], e.rules[len(e.rules) // 2 :])
    ]
    assert len(PriceTable.from_events(in_two)._models["openrouter"]) == len(TABLE._models["openrouter"])


def test_an_unknown_provider_of_prices_is_an_error_of_ours() -> None:
    with pytest.raises(LookupError, match="no-such"):
        package.missing(["no-such"], {})


def test_a_rule_in_words_that_this_release_does_not_know_is_refused() -> None:
    event = PricePublished(
        provider="p", source="s", table="t", rules=[{"id": "m", "match": {"sounds_like": "m"}, "prices": []}]
    )
    with pytest.raises(ValueError, match="sounds_like"):
        PriceTable.from_events([event])
