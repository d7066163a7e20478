"""Google's Gemini API over every provider. Its paths name the model, and say whether the answer is streamed."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gateway.api.answers import json_response, services
from gateway.api.counting import ESTIMATED, guessed
from gateway.api.exchange import Expand, serve
from gateway.api.models import model_object, named, virtual_objects
from gateway.errors import InvalidRequest
from gateway.json_guard import check_id, read_json
from gateway.wire.dialects import GENERATE_CONTENT
from gateway.wire.gemini.dialect import as_chat

METHODS = ("generateContent", "streamGenerateContent", "countTokens")
NO_CHAT = ("text-embedding", "text-reranking")


async def generate(request: web.Request) -> web.StreamResponse:
    """Google's generateContent, over every provider"""
    return await serve(request, GENERATE_CONTENT, expand=_expand(streamed=False))


async def stream(request: web.Request) -> web.StreamResponse:
    """The same as a stream (`?alt=sse`); without it, as an array of one answer"""
    array = request.query.get("alt") != "sse"
    return await serve(request, GENERATE_CONTENT, expand=_expand(streamed=not array, array=array))


async def count_tokens(request: web.Request) -> web.Response:
    """Tokens of such a request: an estimate that says so"""
    body, _ = await read_json(request)
    whole = next(
        (body[name] for name in ("generateContentRequest", "generate_content_request") if body.get(name)), body
    )
    if not isinstance(whole, dict):
        raise InvalidRequest("generateContentRequest must be an object.", param="generateContentRequest")
    GENERATE_CONTENT.check(whole)
    said = as_chat(whole, _model(request), streamed=False)
    return web.json_response({"totalTokens": guessed(said)}, headers=ESTIMATED)


async def list_models(request: web.Request) -> web.Response:
    """The models that chat, in Google's shape"""
    given = services(request)
    listings = await given.discovery.listings(None)
    listed = ((listing, model) for listing in listings for model in listing.models)
    found = [model_object(listing, model) for listing, model in listed if model.type not in NO_CHAT]
    return json_response({"models": [_shown(model) for model in [*virtual_objects(given), *found]]})


async def one_model(request: web.Request) -> web.Response:
    """One model, in Google's shape"""
    return json_response(_shown(await named(services(request), _model(request))))


def _expand(*, streamed: bool, array: bool = False) -> Expand:
    async def expand(request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        return as_chat(body, _model(request), streamed, array)

    return expand


def _model(request: web.Request) -> str:
    model = request.match_info["model"]
    check_id(model, "model")
    return model


def _shown(model: dict[str, Any]) -> dict[str, Any]:
    """https://ai.google.dev/api/models#Model"""
    shown = {"name": f"models/{model['id']}", "displayName": model["id"], "version": ""}
    limit = {"inputTokenLimit": model["context_length"]} if "context_length" in model else {}
    return {**shown, **limit, "supportedGenerationMethods": METHODS}
