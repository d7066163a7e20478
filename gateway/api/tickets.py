"""POST /v1/tickets: a way in for what cannot set headers."""

from __future__ import annotations

from aiohttp import web

from gateway.api.answers import json_response, services
from gateway.edge import KEY_ID
from gateway.tickets import LIFETIME_S


async def issue_ticket(request: web.Request) -> web.Response:
    """`{"ticket", "expires_in"}`: put it into a URL as `?access_token=`; it works once, within `expires_in` seconds."""
    ticket = services(request).tickets.issue(request[KEY_ID])
    answer = json_response({"ticket": ticket, "expires_in": LIFETIME_S})
    answer.headers["Cache-Control"] = "no-store"
    return answer
