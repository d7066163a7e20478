"""The endpoint that most clients know; the opinions are in gateway/exchange."""

from __future__ import annotations

from aiohttp import web

from gateway.api.exchange import serve
from gateway.wire.dialects import CHAT


async def chat_completions(request: web.Request) -> web.StreamResponse:
    """OpenAI's chat completions, over every provider."""
    return await serve(request, CHAT)
