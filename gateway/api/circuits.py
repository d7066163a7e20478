"""GET /v1/circuit-breakers: the providers that failed of late, and when they are tried again."""

from __future__ import annotations

from aiohttp import web

from gateway.api.answers import json_response, services
from gateway.api.exchange import DESK


async def list_all(request: web.Request) -> web.Response:
    """`{data: [{provider, credential, state, failures, opened_at, retry_at}], position}`; times in microseconds since
    1970, `credential` a fingerprint. Who is not listed has not failed since it last answered."""
    circuits = request.app[DESK].exchanges.circuits
    shown = [] if circuits is None else circuits.shown()
    return json_response({"data": shown, "position": await services(request).log.head()})
