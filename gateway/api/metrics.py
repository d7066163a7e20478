"""GET /metrics and GET /v1/metrics: Prometheus text from the log."""

from __future__ import annotations

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from gateway.api.answers import caught_up, services
from projections.exposition import Gauges, render
from projections.metrics import Metrics


async def metrics(request: web.Request) -> web.Response:
    """One page; counters and histograms as of the log, gauges as of now."""
    given = services(request)
    await caught_up(request, Metrics.name)
    uptime = ("Seconds since the server started.", (given.steady_us() - given.started_at) / 1e6)
    gauges = Gauges(
        now=given.now_us(),
        log_position=await given.log.head(),
        relay_lag=(given.follower.status.get("relay") or {}).get("lag_events"),
        extra={"abstractcore_uptime_seconds": uptime},
    )
    shown = await given.read_projections(lambda rows: render(rows, gauges))
    return web.Response(body=shown, headers={"Content-Type": CONTENT_TYPE_LATEST})
