"""GET /health: whether the server works, and what does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from eventstore.errors import LogError
from gateway.api.answers import json_response, services
from gateway.services import Services

_RELAY = {
    "down": "NATS cannot be reached",
    "full": "a stream in NATS has no room",
    "fenced": "another process publishes to NATS under this log's identity",
}
"""States of the relay that are worth a word; requests are served all the same."""


async def health(request: web.Request) -> web.Response:
    """`healthy`; `degraded` (200: requests are served, but something behind them is not well) or `failing` (503: no
    request can be recorded), with `reasons`. Says nothing of errors' texts: this route needs no key."""
    given = services(request)
    if found := await failing(given):
        return json_response({"status": "failing", "reasons": found}, status=503)
    if reasons := degraded(given.follower.status) + given.ails():
        return json_response({"status": "degraded", "reasons": reasons})
    return json_response({"status": "healthy"})


async def failing(given: Services) -> list[str]:
    """What keeps requests from being recorded."""
    found = list(given.trouble())
    if given.log.full:
        found.append("the log's disk is nearly full: new requests are refused")
    if given.log.held:
        found.append("another process holds a lock on the log: new requests are refused")
    try:
        await given.log.head()
    except LogError:
        found.append("the log cannot be read")
    return found


def degraded(status: Mapping[str, Any]) -> list[str]:
    """What is not well behind the requests."""
    reasons = []
    if (state := (status.get("follower") or {}).get("state")) in {"restarting", "stopped"}:
        reasons.append(f"follower: the process that relays and projects is {state}")
    if (status.get("projecting") or {}).get("error"):
        reasons.append("projections: their database cannot be written")
    if damaged := (status.get("scrub") or {}).get("findings"):
        first = status["scrub"]["first"]
        reasons.append(f"the log: {damaged} rows are not as they were written, the first at position {first}")
    if word := _RELAY.get((status.get("relay") or {}).get("state", "")):
        reasons.append(f"relay: {word}")
    if (status.get("relay") or {}).get("refused"):
        reasons.append("relay: NATS holds history of this node that does not fit to the log: see the server's log")
    for name, projection in sorted((status.get("projections") or {}).items()):
        if halted := projection.get("halted"):
            what = f"{halted['type']} at" if halted.get("type") else "an event at"
            reasons.append(f"projection {name}: halted by {what} position {halted['position']}")
    return reasons
