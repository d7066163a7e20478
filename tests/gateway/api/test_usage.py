"""The cost report over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request

from gateway.api.usage import moment
from tests.gateway.serving import new_id, serving
from tests.projections.stories import answered, usd


async def test_a_report_includes_what_was_answered_just_before(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        appended = await served.add(*answered(new_id()), *answered(new_id()))
        status, body, _ = await served.get("/v1/usage")
        assert status == 200
        assert body["position"] >= appended.last
        assert "stale" not in body
        (line,) = body["data"]
        assert (line["provider"], line["model"]) == ("ollama", "qwen3-coder:30b")
        assert (line["requests"], line["tokens_input"], line["tokens_output"]) == (2, 24, 14)
        assert body["total"]["requests_unpriced"] == 0


async def test_money_is_an_exact_decimal_number(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        for _ in range(3):
            await served.add(*answered(new_id()))
        async with served.client.get(served.url + "/v1/usage") as answer:
            text = await answer.text()
        assert f'"cost_usd":{usd("0.00348").decimal()}' in text


async def test_a_report_that_could_not_catch_up_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await served.get("/v1/usage")
        served.follower.held = True
        await served.add(*answered(new_id()))
        status, body, _ = await served.get("/v1/usage")
        assert (status, body["stale"], body["total"]["requests"]) == (200, True, 0)


async def test_a_position_that_the_log_has_not_reached_makes_it_stale(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        assert (await served.get("/v1/usage?min_position=999999"))[1]["stale"] is True
        assert "stale" not in (await served.get("/v1/usage?min_position=0"))[1]


async def test_before_the_projections_exist_it_asks_to_come_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        served.follower.held = True
        status, body, headers = await served.get("/v1/usage")
        assert (status, body["error"]["code"], headers["Retry-After"]) == (503, "unavailable", "1")


@pytest.mark.parametrize("group", ["model", "provider", "key", "session", "day", "subject", "tag&tag=team"])
async def test_every_grouping(tmp_path: Path, group: str) -> None:
    async with serving(tmp_path) as served:
        await served.add(*answered(new_id(), key="key-1", session_id="s-1"))
        _, body, _ = await served.get(f"/v1/usage?group_by={group}")
        assert len(body["data"]) == 1
        assert body["total"]["requests"] == 1


async def test_pages_go_on_behind_what_has_no_session(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        for session in (None, "a", "b"):
            await served.add(*answered(new_id(), session_id=session))
        seen, after = [], ""
        for _ in range(3):
            _, body, _ = await served.get(f"/v1/usage?group_by=session&limit=1{after}")
            seen += [group["session_id"] for group in body["data"]]
            after = f"&after={seen[-1] or ''}"
        assert seen == [None, "a", "b"]


@pytest.mark.parametrize(
    ("span", "counted"),
    [
        ("since=2020-01-01", 1),
        ("until=2020-01-01", 0),
        ("since=2020-01-01T00:00:00Z&until=2100-01-01T00:00:00%2B02:00", 1),
        ("since=2020-01-01T00:00:00+02:00", 1),
        ("since=1577836800", 1),
        ("since=4102444800", 0),
    ],
)
async def test_times_are_understood_as_people_write_them(tmp_path: Path, span: str, counted: int) -> None:
    async with serving(tmp_path) as served:
        await served.add(*answered(new_id()))
        assert (await served.get("/v1/usage?" + span))[1]["total"]["requests"] == counted


def test_a_time_before_1970_is_as_exact_as_any() -> None:
    asked = make_mocked_request("GET", "/v1/usage?since=1969-12-31T23:59:59.75Z&until=1970-01-01T00:00:00.25Z")
    assert [moment(asked, name) for name in ("since", "until")] == [-250_000, 250_000]


async def test_a_report_by_tag_names_the_value(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await served.add(*answered(new_id(), tags={"team": "core"}), *answered(new_id()))
        _, body, _ = await served.get("/v1/usage?group_by=tag&tag=team")
        assert [(row["tag"], row["requests"]) for row in body["data"]] == [(None, 1), ("core", 1)]


BAD = [
    "group_by=colour",
    "tag=team",
    "tag=&group_by=tag",
    "since=yesterday",
    "until=99999999999999999999",
    "limit=0",
    "limit=x",
    "limit=10001",
    "min_position=-1",
    "since=2026-13-01",
]


@pytest.mark.parametrize("query", BAD)
async def test_bad_questions_get_400_with_the_parameters_name(tmp_path: Path, query: str) -> None:
    async with serving(tmp_path) as served:
        status, body, _ = await served.get("/v1/usage?" + query)
        assert (status, body["error"]["param"]) == (400, query.partition("=")[0])
