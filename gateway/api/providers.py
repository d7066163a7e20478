"""GET /providers: every provider, how many models it has, and how it is."""

from __future__ import annotations

from aiohttp import web

from gateway.api.answers import json_response, services
from gateway.api.models import status_object


async def list_providers(request: web.Request) -> web.Response:
    """`{"providers": [{"name", "type", "model_count", "status", "reason"?}]}`."""
    listings = await services(request).discovery.listings()
    return json_response({"providers": [status_object(listing) for listing in listings]})
