"""GET /v1/status: the server at a glance, with counts over all of its log and how each provider is."""

from __future__ import annotations

import sqlite3
from typing import Any

from aiohttp import web

from gateway.api.answers import caught_up, json_response, services
from gateway.api.exchange import DESK
from gateway.api.health import degraded, failing
from gateway.discovery import Listing
from gateway.release import release
from projections.metrics import Metrics, requests_ended
from projections.usage import UsageProjection, sessions_since

ACTIVE_S = 3600
"""A session is active for so long after its last turn."""
_WORDS = {"available": "healthy", "unavailable": "unhealthy"}


async def status(request: web.Request) -> web.Response:
    """`{status, version, uptime_seconds, total_requests, active_sessions, providers}`, and more beside.

    `total_requests` counts those of all runs that ended, and those that run now; a session is active for an hour."""
    given, now = services(request), services(request).now_us()
    reasons = await failing(given)
    word = "failing" if reasons else "healthy"
    if not reasons and (reasons := degraded(given.follower.status) + given.ails()):
        word = "degraded"
    listings = await given.discovery.listings()
    stale = await caught_up(request, Metrics.name) or await caught_up(request, UsageProjection.name)
    ended, sessions = await given.read_projections(lambda rows: _counts(rows, now))
    running = len(request.app[DESK].exchanges.open)
    shown = {
        "status": word,
        "version": release(),
        "uptime_seconds": (given.steady_us() - given.started_at) // 1_000_000,
        "total_requests": sum(ended.values()) + running,
        "active_sessions": sessions,
        "providers": [_provider(listing) for listing in listings],
        "reasons": reasons,
        "requests": {**ended, "running": running},
        "origin": given.log.origin,
        "position": await given.log.head(),
    }
    return json_response(shown | stale)


def _counts(rows: sqlite3.Connection, now_us: int) -> tuple[dict[str, int], int]:
    return requests_ended(rows), sessions_since(rows, now_us - ACTIVE_S * 1_000_000)


def _provider(listing: Listing) -> dict[str, Any]:
    shown = {
        "name": listing.provider.name,
        "status": _WORDS.get(listing.status, listing.status),
        "models": [model.id for model in listing.models],
    }
    return shown if listing.reason is None else {**shown, "reason": listing.reason}
