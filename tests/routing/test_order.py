"""The order of a virtual model's members: as a pure function of what is given."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.order import LOOKS, ORDERINGS, Asked, View, ordered
from gateway.routing.virtual import BadConfiguration, Member, parse

ONE, TWO, THREE = Member("a/one"), Member("b/two", 3.0), Member("c/three", 4.0)
ALL = (ONE, TWO, THREE)

numbers = st.floats(0.001, 1e6)
views = st.builds(
    View,
    price=st.none() | st.integers(0, 10**15),
    ttft_ms=st.none() | numbers,
    tokens_per_s=st.none() | numbers,
    open_calls=st.integers(0, 50),
    context=st.none() | st.integers(1, 10_000),
    able=st.sampled_from([(), ("completion",), ("completion", "vision"), ("completion", "tools")]),
    left_alone=st.booleans(),
    refused=st.none() | st.just("no_key"),
)
asked = st.builds(Asked, images=st.booleans(), tools=st.booleans(), tokens=st.integers(0, 10_000))
members = st.lists(
    st.builds(Member, st.from_regex(r"[a-c]/[a-z]{1,4}", fullmatch=True), numbers), unique_by=lambda m: m.model
)
draws = st.floats(0, 1, exclude_max=True)


def models(strategy: str, known: dict[str, View], draw: float = 0.5, need: Asked = Asked()) -> list[str]:  # noqa: B008  a value
    return [each.model for each in ordered(strategy, ALL, need, known, draw) if each.skipped is None]


@given(st.sampled_from(sorted(ORDERINGS)), members, asked, st.data(), draws)
def test_every_member_has_one_place_and_those_that_cannot_are_behind_with_a_reason(
    strategy: str, given: list[Member], need: Asked, data: st.DataObject, draw: float
) -> None:
    known = {member.model: data.draw(views) for member in given}
    found = ordered(strategy, given, need, known, draw)
    assert Counter(each.model for each in found) == Counter(member.model for member in given)
    states = [2 if each.skipped else 1 if each.last else 0 for each in found]
    assert states == sorted(states)
    assert found == ordered(strategy, given, need, known, draw)
    for each in found:
        assert not (each.skipped is None and known[each.model].refused)
        assert not (each.last is None and each.skipped is None and known[each.model].left_alone)


@given(st.lists(st.none() | st.integers(0, 10**15), min_size=3, max_size=3), draws)
def test_cheapest_goes_by_price_and_the_unknown_last(prices: list[int | None], draw: float) -> None:
    known = {member.model: View(price=price) for member, price in zip(ALL, prices, strict=True)}
    found = [known[model].price for model in models("cheapest", known, draw)]
    assert found == sorted(found, key=lambda price: (price is None, price or 0))


@given(draws)
def test_fastest_is_the_fastest_but_for_a_look_now_and_then(draw: float) -> None:
    known = {m.model: View(ttft_ms=100.0 * n, tokens_per_s=50.0) for n, m in enumerate(ALL, 1)}
    assert (models("fastest", known, draw)[0] == ONE.model) is (draw >= LOOKS)


def test_fastest_begins_with_who_was_never_seen() -> None:
    known = {ONE.model: View(ttft_ms=1.0, tokens_per_s=900.0), TWO.model: View()}
    assert models("fastest", known) == [TWO.model, THREE.model, ONE.model]


def test_weighted_shares_are_the_weights() -> None:
    tries = 8000
    first = Counter(models("weighted", {}, number / tries)[0] for number in range(tries))
    second = Counter(models("weighted", {}, number / tries)[1] for number in range(tries) if number / tries >= 0.5)
    assert first == {ONE.model: 1000, TWO.model: 3000, THREE.model: 4000}
    assert second[TWO.model] == pytest.approx(3000, abs=2)  # of ONE and TWO, behind THREE


def test_least_busy_minds_the_weight_and_draws_among_equals() -> None:
    known = {ONE.model: View(open_calls=2), TWO.model: View(open_calls=3), THREE.model: View(open_calls=8)}
    assert models("least_busy", known)[0] == TWO.model
    assert Counter(models("least_busy", {}, number / 30)[0] for number in range(30)) == Counter(
        {m.model: 10 for m in ALL}
    )


@pytest.mark.parametrize(
    ("need", "view", "why"),
    [
        (Asked(images=True), View(able=("completion",)), "no_vision"),
        (Asked(images=True), View(able=("completion", "vision")), None),
        (Asked(images=True), View(), None),
        (Asked(audio=True), View(able=("completion", "vision")), "no_audio"),
        (Asked(tokens=101), View(context=100), "context"),
        (Asked(tokens=100), View(context=100), None),
        (Asked(), View(refused="no_key"), "no_key"),
        (Asked(tools=True), View(able=("completion",)), None),
    ],
)
def test_who_is_known_to_be_unable_is_skipped_with_the_reason(need: Asked, view: View, why: str | None) -> None:
    (found,) = ordered("fallback", [ONE], need, {ONE.model: view}, 0.0)
    assert found.skipped == why


@pytest.mark.parametrize(
    ("need", "view", "why"),
    [
        (Asked(), View(left_alone=True), "circuit_open"),
        (Asked(tools=True), View(able=("completion",)), "prompted"),
        (Asked(schema=True), View(able=("completion", "vision")), "prompted"),
        (Asked(tools=True), View(able=("completion", "tools")), None),
    ],
)
def test_who_would_not_do_well_goes_last(need: Asked, view: View, why: str | None) -> None:
    found = ordered("fallback", [ONE, TWO], need, {ONE.model: view}, 0.0)
    assert [each.model for each in found] == ([TWO.model, ONE.model] if why else [ONE.model, TWO.model])
    assert found[-1 if why else 0].last == why


def test_a_file_says_what_each_name_stands_for() -> None:
    raw = (
        b'[models.auto]\nstrategy = "weighted"\nmembers = ["a/one", {model = "b/two", weight = 3}]\nmax_cost_usd = 0.5'
    )
    auto = parse(raw, ORDERINGS)["auto"]
    assert (auto.strategy, auto.members) == ("weighted", (ONE, TWO))
    assert auto.most_cost is not None
    assert auto.most_cost.decimal() == "0.5"
    assert parse(b"", ORDERINGS) == {}


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        ("models", "no TOML"),
        ("models = " + "9" * 5000, "no TOML"),
        ("models = " + "[" * 100_000, "no TOML"),
        ("[model.auto]", "known are models"),
        ("[models.auto]", "models.auto.members"),
        ('[models.auto]\nstrategy = "best"\nmembers = ["a/b"]', "models.auto.strategy"),
        ('[models.auto]\nstrategy = ["cheapest"]\nmembers = ["a/b"]', "models.auto.strategy"),
        ('[models.auto]\nmembers = ["gpt"]', "members[0].model"),
        ('[models.auto]\nmembers = ["a/b", "a/b"]', "twice"),
        ('[models.auto]\nmembers = [{model = "a/b", weight = 0}]', "members[0].weight"),
        ('[models.auto]\nmembers = [{model = "a/b", wieght = 1}]', "wieght"),
        ('[models.auto]\nmembers = ["a/b"]\nretries = 99', "models.auto.retries"),
        ('[models.auto]\nmembers = ["a/b"]\ndeadline_s = nan', "models.auto.deadline_s"),
        ('[models.auto]\nmembers = ["a/b"]\nmax_cost_usd = true', "models.auto.max_cost_usd"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place(raw: str, where: str) -> None:
    with pytest.raises(BadConfiguration) as refused:
        parse(raw.encode(), ORDERINGS)
    assert where in str(refused.value)
