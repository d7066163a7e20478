"""Anthropic's protocol over every provider."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gateway.api.answers import services
from gateway.api.counting import ESTIMATED, counted, guessed
from gateway.api.exchange import serve
from gateway.json_guard import read_json
from gateway.wire.dialects import MESSAGES
from gateway.wire.messages.request import chat

BETA = "anthropic-beta"


async def messages(request: web.Request) -> web.StreamResponse:
    """Anthropic's Messages, over every provider"""
    return await serve(request, MESSAGES, expand=_with_betas)


async def count_tokens(request: web.Request) -> web.StreamResponse:
    """Tokens of a Messages request: Anthropic's own count, else an estimate that says so"""
    body, _ = await read_json(request)
    MESSAGES.check({"max_tokens": 1, **body})
    body = await _with_betas(request, body)
    tokens = await counted(services(request), body, lambda route, upstream: body)
    if tokens is not None:
        return web.json_response({"input_tokens": tokens})
    return web.json_response({"input_tokens": guessed(chat({"max_tokens": 1, **body}))}, headers=ESTIMATED)


async def _with_betas(request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
    """What the client's header switches on is part of what it asks."""
    betas = request.headers.get(BETA)
    return {**body, "anthropic_beta": betas} if betas else body
