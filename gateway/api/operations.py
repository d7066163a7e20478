"""The endpoints beside chat: exchanges like any other, with the same promises."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gateway.api.exchange import serve
from gateway.api.forms import read_form
from gateway.errors import NotFound
from gateway.services import SERVICES
from gateway.wire.dialects import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    IMAGE_EDITS,
    IMAGES,
    MODERATIONS,
    RERANK,
    SPEECH,
    STRUCTURED,
    TRANSCRIPTIONS,
    TRANSLATIONS,
)


async def completions(request: web.Request) -> web.StreamResponse:
    """The old completions: natively where the server has them, else as one message"""
    return await serve(request, COMPLETIONS)


async def structured(request: web.Request) -> web.StreamResponse:
    """One JSON object that is valid against `response_model`, and nothing around it"""
    return await serve(request, STRUCTURED)


async def embeddings(request: web.Request) -> web.StreamResponse:
    """Vectors of texts or tokens, as numbers or in base64"""
    return await serve(request, EMBEDDINGS)


async def image_generations(request: web.Request) -> web.StreamResponse:
    """Images from words, where the provider makes them"""
    return await serve(request, IMAGES)


async def image_edits(request: web.Request) -> web.StreamResponse:
    """Images from images and words (a form)"""
    return await serve(request, IMAGE_EDITS, read=read_form)


async def transcriptions(request: web.Request) -> web.StreamResponse:
    """Text from speech (a form), where the provider hears"""
    return await serve(request, TRANSCRIPTIONS, read=read_form)


async def translations(request: web.Request) -> web.StreamResponse:
    """English text from speech in other languages (a form), where the provider hears"""
    return await serve(request, TRANSLATIONS, read=read_form)


async def speech(request: web.Request) -> web.StreamResponse:
    """Speech from text, where the provider speaks"""
    return await serve(request, SPEECH)


async def moderations(request: web.Request) -> web.StreamResponse:
    """What a provider holds against a text"""
    return await serve(request, MODERATIONS)


async def rerank(request: web.Request) -> web.StreamResponse:
    """Documents in the order of their relevance to a query"""
    return await serve(request, RERANK)


async def chat_completions_of(request: web.Request) -> web.StreamResponse:
    """Chat completions of one provider, its models named without it"""
    return await serve(request, CHAT, expand=_of_provider)


async def _of_provider(request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
    """The body with the path's provider before its model, unless it stands there."""
    provider = request.match_info["provider"]
    if provider not in request.app[SERVICES].providers:
        raise NotFound(f"There is no provider {provider[:80]!r}. GET /providers lists them.", code="provider_not_found")
    model = body.get("model") or ""
    return body if model.startswith(f"{provider}/") else {**body, "model": f"{provider}/{model}"}
