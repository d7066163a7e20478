"""Ollama's own API, for what its OpenAI-shaped one cannot say: the context's length, keep_alive, thinking."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from gateway.errors import Forbidden
from gateway.upstreams.http import HttpClient
from gateway.upstreams.times import unix_seconds
from gateway.upstreams.upstream import Answer, Call, ModelInfo, Provider, UpstreamFailure
from gateway.wire.ndjson import LineFramer
from gateway.wire.ollama import OllamaChatDecoder, error_of_body
from gateway.wire.ollama_request import encode
from gateway.wire.values import Decoder, Framer, UpstreamError, count
from gateway.wire.whole_body import BodyFramer

SHOW_S = 1.0
"""Time to describe all models; one that is not described by then is listed by what the list itself says."""
SHOWN_AT_ONCE = 4


class Ollama:
    """The family."""

    family = "ollama"

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    def encode(self, provider: Provider, model: str, body: Mapping[str, Any]) -> Call:
        if body.get("unload_after"):
            if "unload_after" not in provider.traits:
                raise Forbidden(
                    f"{provider.name} may serve others too: unload_after is not allowed here.",
                    param="unload_after",
                    code="forbidden",
                )
            body = {**body, "keep_alive": 0}  # it unloads when the last request under way is done
        said, ignored = encode(model, body)
        return Call("/api/chat", said, body.get("stream") is True, ignored=ignored)

    def framer(self, streamed: bool) -> Framer:
        return LineFramer() if streamed else BodyFramer()

    def decoder(self, streamed: bool) -> Decoder:
        return OllamaChatDecoder()

    def auth_headers(self, provider: Provider, api_key: str | None) -> dict[str, str]:
        """A local server asks for none; a key given for it (a proxy before it, a cloud) goes as a bearer token."""
        return {"authorization": f"Bearer {api_key}"} if api_key else {}

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        return error_of_body(status, body)

    async def open(self, provider: Provider, call: Call, api_key: str | None) -> Answer:
        return await self._http.post(provider.base_url + call.path, call, self.auth_headers(provider, api_key))

    async def models(self, provider: Provider, api_key: str | None) -> list[ModelInfo]:
        """The list, each model described by `/api/show` as far as that is quick."""
        headers = self.auth_headers(provider, api_key)
        tags = await self._http.get_json(provider.base_url + "/api/tags", headers)
        listed = tags.get("models") if isinstance(tags, dict) else None
        if not isinstance(listed, list):
            raise UpstreamFailure("bad_response", "the provider's list of models has no models")
        items = [item for item in listed if isinstance(item, dict) and isinstance(item.get("name"), str)]
        shown = await self._show_all(provider, [item["name"] for item in items], headers)
        return [_model(item, shown.get(item["name"], {})) for item in items]

    async def _show_all(
        self, provider: Provider, names: list[str], headers: Mapping[str, str]
    ) -> dict[str, dict[str, Any]]:
        """The descriptions that came within `SHOW_S`, by name."""
        places = asyncio.Semaphore(SHOWN_AT_ONCE)
        shown: dict[str, dict[str, Any]] = {}

        async def show(name: str) -> None:
            async with places:
                try:
                    url = provider.base_url + "/api/show"
                    answer = await self._http.json("POST", url, {"model": name}, headers, SHOW_S)
                except UpstreamFailure:
                    return  # the model is listed all the same
                if isinstance(answer, dict):
                    shown[name] = answer

        try:
            async with asyncio.timeout(SHOW_S), asyncio.TaskGroup() as tasks:
                for name in names:
                    tasks.create_task(show(name))
        except TimeoutError:
            pass  # what came until now will do
        return shown


def _model(item: dict[str, Any], shown: dict[str, Any]) -> ModelInfo:
    capabilities = shown.get("capabilities") or item.get("capabilities")
    known = tuple(str(c) for c in capabilities) if isinstance(capabilities, list) else ()
    return ModelInfo(
        id=item["name"],
        type=_type(known, item.get("details")),
        created=unix_seconds(item.get("modified_at")),
        owned_by="ollama",
        context_length=_context_length(shown.get("model_info")),
        capabilities=known,
    )


def _type(capabilities: tuple[str, ...], details: Any) -> str | None:
    """By its capabilities; on servers that tell none, by the architecture: BERTs only embed."""
    if capabilities:
        embeds = "text-embedding" if "embedding" in capabilities else None
        return "text-generation" if "completion" in capabilities else embeds
    families = details.get("families") if isinstance(details, dict) else None
    if not isinstance(families, list):
        return None
    return "text-embedding" if any("bert" in str(family) for family in families) else "text-generation"


def _context_length(info: Any) -> int | None:
    """`<architecture>.context_length` of the model's own description."""
    if not isinstance(info, dict):
        return None
    return count(info.get(f"{info.get('general.architecture')}.context_length")) or None
