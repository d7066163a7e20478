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

HEADERS = {"anthropic-beta": "anthropic_beta", "anthropic-version": "anthropic_version"}
"""The client's headers that are part of what it asks, and the fields that stand for them."""


async def messages(request: web.Request) -> web.StreamResponse:
    """Anthropic's Messages, over every provider"""
    return await serve(request, MESSAGES, expand=_with_headers)


async def count_tokens(request: web.Request) -> web.StreamResponse:
    """Tokens of a Messages request: Anthropic's own count, else an estimate that says so"""
    body, _ = await read_json(request)
    MESSAGES.check({"max_tokens": 1, **body})
    body = await _with_headers(request, body)
    tokens = await counted(services(request), body, lambda route, upstream: body)
    if tokens is not None:
        return web.json_response({"input_tokens": tokens})
    return web.json_response({"input_tokens": guessed(chat({"max_tokens": 1, **body}))}, headers=ESTIMATED)


async def _with_headers(request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
    """What the client's headers switch on is part of what it asks."""
    said = {field: value for header, field in HEADERS.items() if (value := request.headers.get(header))}
    return {**body, **said} if said else body
