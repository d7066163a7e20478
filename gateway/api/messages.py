"""Anthropic's protocol over every provider."""

from __future__ import annotations

import logging
from typing import Any

import orjson
from aiohttp import web

from gateway.api.answers import services
from gateway.api.exchange import serve
from gateway.exchange.estimate import BYTES_PER_TOKEN
from gateway.json_guard import read_json
from gateway.routing.choose import choose, credential
from gateway.upstreams.upstream import Counts, UpstreamFailure
from gateway.wire.dialects import MESSAGES
from gateway.wire.messages.request import chat

logger = logging.getLogger(__name__)

BETA = "anthropic-beta"
ESTIMATED = "x-abstractcore-estimated"


async def messages(request: web.Request) -> web.StreamResponse:
    """Anthropic's Messages, over every provider"""
    return await serve(request, MESSAGES, expand=_with_betas)


async def count_tokens(request: web.Request) -> web.StreamResponse:
    """Tokens of a Messages request: Anthropic's own count, else an estimate that says so"""
    # No exchange: nothing is generated or booked, and clients count the same words again before they ask.
    body, _ = await read_json(request)
    MESSAGES.check({"max_tokens": 1, **body})
    body = await _with_betas(request, body)
    given = services(request)
    name = body.get("model") or given.settings.model or ""
    if given.stands_for(name) != (name,):  # each of them would count otherwise
        return _estimated(body)
    route = choose(name, given.providers, given.settings.provider, given.discovery.listed())
    upstream = given.upstreams[route.provider.family]
    if isinstance(upstream, Counts) and not body.get("base_url"):  # whose key goes to that host alone
        key = credential(route.provider, body.get("api_key"), None)
        try:
            counted = await upstream.count_tokens(route.provider, route.model, body, key)
            return web.json_response({"input_tokens": counted})
        except UpstreamFailure as failure:
            logger.info("%s counted no tokens: %s", route.provider.name, failure)
    return _estimated(body)


def _estimated(body: dict[str, Any]) -> web.Response:
    said = chat({"max_tokens": 1, **body})
    length = len(orjson.dumps([said["messages"], said.get("tools")]))
    return web.json_response({"input_tokens": -(-length // BYTES_PER_TOKEN)}, headers={ESTIMATED: "true"})


async def _with_betas(request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
    """What the client's header switches on is part of what it asks."""
    betas = request.headers.get(BETA)
    return {**body, "anthropic_beta": betas} if betas else body
