"""Every server that speaks OpenAI's chat completions: openai, lmstudio, vllm, openrouter, openai-compatible.

The request passes as it came, less our own extension fields. What servers of this family do differently is data:
    asks_usage      `stream_options.include_usage` is understood: asked for in streams, to account for the answer
    usage_include   OpenRouter: `usage: {include: true}` gives the authoritative cost
    open_models     OpenRouter: its models are listed without a key; `/key` says what a key is worth
    template_thinking  vLLM: whether a model thinks is an argument of its chat template, `enable_thinking`
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from gateway.upstreams.chat_spoken import ChatSpoken
from gateway.upstreams.http import HttpClient
from gateway.upstreams.upstream import Answer, Call, ModelInfo, Provider, UpstreamFailure
from gateway.wire.chat_request import EXTENSIONS
from gateway.wire.fastlane import loads_lenient
from gateway.wire.openai_chat import error_of
from gateway.wire.thinking import effort
from gateway.wire.values import UpstreamError, WireError, count

_OTHERWISE = frozenset({"dall", "moderation", "realtime", "sora", "transcribe", "tts", "whisper"})
"""Words in the names of models that hear, speak, draw, film or judge."""
_DRAWING = ("gpt-image", "chatgpt-image")
_WORDS = re.compile(r"[a-z0-9]+")


class OpenAICompatible(ChatSpoken):
    """The family."""

    family = "openai_compatible"

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    def encode(self, provider: Provider, model: str, body: Mapping[str, Any]) -> Call:
        sent = {key: value for key, value in body.items() if key not in EXTENSIONS}
        sent["model"] = model
        _think(sent, provider)
        streamed = sent.get("stream") is True
        if streamed:
            set_stream_options(sent, provider)
        if "usage_include" in provider.traits:
            sent["usage"] = {**(sent.get("usage") or {}), "include": True}
        return Call("/chat/completions", orjson.dumps(sent), streamed)

    def auth_headers(self, provider: Provider, api_key: str | None) -> dict[str, str]:
        return {"authorization": f"Bearer {api_key}"} if api_key else {}

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        try:
            value = loads_lenient(body) if body.strip() else None
        except WireError:
            value = None
        if isinstance(value, list) and value:  # Google's endpoint
            value = value[0]
        if not isinstance(value, dict):
            return UpstreamError(f"the provider answered {status}", status)
        found = value.get("error", value.get("detail", value.get("message")))
        error = error_of(found if found else f"the provider answered {status}", status)
        error.status = status
        return error

    async def open(self, provider: Provider, call: Call, api_key: str | None) -> Answer:
        return await self._http.post(provider.base_url + call.path, call, self.auth_headers(provider, api_key))

    async def models(self, provider: Provider, api_key: str | None) -> list[ModelInfo]:
        headers = self.auth_headers(provider, api_key)
        if "open_models" in provider.traits and api_key:
            await self._check_key(provider.base_url + "/key", headers)
        found = await self._http.get_json(provider.base_url + "/models", headers)
        data = found.get("data") if isinstance(found, dict) else None
        if not isinstance(data, list):
            raise UpstreamFailure("bad_response", "the provider's list of models has no data")
        return [_model(item) for item in data if isinstance(item, dict) and isinstance(item.get("id"), str)]

    async def _check_key(self, url: str, headers: Mapping[str, str]) -> None:
        """Raises `UpstreamFailure` where the provider says that the key is none."""
        try:
            await self._http.get_json(url, headers)
        except UpstreamFailure as failure:
            if failure.status in (401, 403):
                raise


def set_stream_options(sent: dict[str, Any], provider: Provider) -> None:
    """Usage is asked for where that is understood. `include_obfuscation` never is: it pads streams on their way to a
    client, ours have no padding, and few servers know the word."""
    asked = sent.pop("stream_options", None) or {}
    options = {name: value for name, value in asked.items() if name != "include_obfuscation"}
    if "asks_usage" in provider.traits:
        options["include_usage"] = True
    if options:
        sent["stream_options"] = options


def _think(sent: dict[str, Any], provider: Provider) -> None:
    """`thinking` as `reasoning_effort`, or for the chat templates of models that only know yes and no."""
    if "thinking" not in sent or isinstance(sent["thinking"], dict):
        return
    wished = sent.pop("thinking")
    if (level := effort(wished)) is None:
        return
    if "template_thinking" in provider.traits:
        flag = {"enable_thinking": level != "none"}
        sent["chat_template_kwargs"] = {**flag, **(sent.get("chat_template_kwargs") or {})}
    if level != "none" or "template_thinking" not in provider.traits:
        sent["reasoning_effort"] = level


def _model(item: dict[str, Any]) -> ModelInfo:
    created, owner = item.get("created"), item.get("owned_by")
    lengths = (count(item.get(name)) for name in ("context_length", "max_model_len", "max_context_length"))
    return ModelInfo(
        id=item["id"],
        type=_type(item["id"].lower()),
        created=created if isinstance(created, int) else None,
        owned_by=owner if isinstance(owner, str) else None,
        context_length=next(filter(None, lengths), None),
    )


def _type(name: str) -> str | None:
    """What a model is for, by its name: the lists of this family do not say. None where that is no text."""
    if "rerank" in name:
        return "text-reranking"
    if "embed" in name:
        return "text-embedding"
    own = name.rpartition("/")[2]
    return None if own.startswith(_DRAWING) or not _OTHERWISE.isdisjoint(_WORDS.findall(own)) else "text-generation"
