"""Health: healthy, degraded with reasons, failing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.api.health import degraded
from tests.gateway.serving import serving


async def test_healthy_is_exactly_that(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        status, body, _ = await served.get("/health")
        assert (status, body) == (200, {"status": "healthy"})


FINE: list[dict[str, Any]] = [
    {},
    {"relay": None, "nats": None, "projections": {}},
    {"relay": {"state": "live", "lag_events": 3}},
    {"relay": {"state": "catching_up"}},
    {"follower": {"state": "running"}},
    {"follower": {"state": "starting"}, "projecting": {"error": None}},
    {"projections": {"usage": {"position": 7, "version": 1, "halted": None}}},
]


@pytest.mark.parametrize("status", FINE, ids=str)
def test_what_is_usual_is_not_worth_a_word(status: dict[str, Any]) -> None:
    assert degraded(status) == []


async def test_degraded_says_what_and_why_and_still_serves(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        served.follower.status = {
            "relay": {"state": "down", "last_error": "secret detail"},
            "follower": {"state": "restarting"},
            "projecting": {"error": "secret detail"},
            "projections": {
                "usage": {
                    "position": 7,
                    "version": 1,
                    "halted": {"position": 8, "type": "odd", "error": "secret detail"},
                }
            },
        }
        expected = ["follower", "projections", "relay", "projection usage"]
        status, body, _ = await served.get("/health")
        assert (status, body["status"]) == (200, "degraded")
        assert [reason.partition(":")[0] for reason in body["reasons"]] == expected
        assert "odd at position 8" in str(body)
        assert "secret detail" not in str(body)


@pytest.mark.parametrize("state", ["down", "full", "fenced"])
def test_each_trouble_of_the_relay_has_its_words(state: str) -> None:
    assert degraded({"relay": {"state": state}})


async def test_a_log_that_cannot_be_written_is_failing(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        served.trouble.append("the log cannot be written")
        status, body, _ = await served.get("/health")
        assert (status, body) == (503, {"status": "failing", "reasons": ["the log cannot be written"]})
