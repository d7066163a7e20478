"""Prometheus text over HTTP, read by Prometheus's own parser."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.gateway.serving import new_id, serving
from tests.projections.stories import answered, received


async def test_both_addresses_give_the_page_with_what_just_happened(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        appended = await served.add(*answered(new_id()), received(new_id()))
        served.follower.status["relay"] = {"state": "live", "lag_events": 4}
        for path in ("/metrics", "/v1/metrics"):
            status, text, headers = await served.get(path)
            assert status == 200
            assert headers["Content-Type"].startswith("text/plain")
            values = {
                sample.name: sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
                if not sample.labels.get("le")
            }
            assert values["abstractcore_requests_total"] == 1
            assert values["abstractcore_open_requests"] == 1
            assert values["abstractcore_log_position"] == appended.last
            assert values["abstractcore_relay_lag_events"] == 4
            assert values["abstractcore_uptime_seconds"] >= 0


async def test_without_a_relay_there_is_no_lag_to_show(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        served.follower.status["relay"] = {}
        assert "abstractcore_relay_lag_events" not in (await served.get("/metrics"))[1]
