"""Anthropic's Messages API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import orjson

from gateway.upstreams.http import HttpClient
from gateway.upstreams.times import unix_seconds
from gateway.upstreams.upstream import Answer, Call, ModelInfo, Provider, UpstreamFailure
from gateway.wire.anthropic_messages import MessagesBodyDecoder, MessagesStreamDecoder
from gateway.wire.anthropic_outcome import error_of_body
from gateway.wire.anthropic_request import encode
from gateway.wire.chat_request import EXTENSIONS
from gateway.wire.messages.native import NativeBodyDecoder, NativeStreamDecoder
from gateway.wire.values import Decoder, Framer, UpstreamError, count
from gateway.wire.whole_body import BodyFramer, EventsFramer

VERSION = {"anthropic-version": "2023-06-01"}
"""https://docs.anthropic.com/en/api/versioning"""

COUNT_S = 10.0
COUNTED = frozenset(
    {"model", "messages", "system", "tools", "tool_choice", "thinking", "mcp_servers", "output_config", "cache_control"}
)
"""What the counting endpoint takes of a request."""

_PAGE, _MOST_PAGES = 1000, 10


class Anthropic:
    """The family."""

    family = "anthropic"

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    def encode(self, provider: Provider, model: str, body: Mapping[str, Any]) -> Call:
        said, ignored = encode(model, body)
        return Call("/v1/messages", said, body.get("stream") is True, VERSION, ignored)

    def framer(self, streamed: bool) -> Framer:
        return EventsFramer() if streamed else BodyFramer()

    def decoder(self, streamed: bool) -> Decoder:
        return MessagesStreamDecoder() if streamed else MessagesBodyDecoder()

    def auth_headers(self, provider: Provider, api_key: str | None) -> dict[str, str]:
        return {"x-api-key": api_key} if api_key else {}

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        return error_of_body(status, body)

    async def open(self, provider: Provider, call: Call, api_key: str | None) -> Answer:
        return await self._http.post(provider.base_url + call.path, call, self.auth_headers(provider, api_key))

    async def count_tokens(self, provider: Provider, model: str, body: Mapping[str, Any], api_key: str | None) -> int:
        """https://docs.anthropic.com/en/api/messages-count-tokens"""
        call = NativeMessages().encode(provider, model, body)
        asked = {name: value for name, value in orjson.loads(call.body).items() if name in COUNTED}
        headers = {**call.headers, **self.auth_headers(provider, api_key)}
        url = f"{provider.base_url}/v1/messages/count_tokens"
        found = await self._http.json("POST", url, asked, headers, COUNT_S)
        tokens = found.get("input_tokens") if isinstance(found, dict) else None
        if not isinstance(tokens, int):
            raise UpstreamFailure("bad_response", "the provider counted no tokens")
        return tokens

    async def models(self, provider: Provider, api_key: str | None) -> list[ModelInfo]:
        """Page after page, until the API says that there is no more."""
        headers = {**VERSION, **self.auth_headers(provider, api_key)}
        url = f"{provider.base_url}/v1/models?limit={_PAGE}"
        found: list[ModelInfo] = []
        after = ""
        for _ in range(_MOST_PAGES):
            page = await self._http.get_json(url + after, headers)
            data = page.get("data") if isinstance(page, dict) else None
            if not isinstance(page, dict) or not isinstance(data, list):
                raise UpstreamFailure("bad_response", "the provider's list of models has no data")
            found += [_model(item) for item in data if isinstance(item, dict) and isinstance(item.get("id"), str)]
            if not page.get("has_more") or not isinstance(page.get("last_id"), str):
                break
            after = f"&after_id={quote(page['last_id'], safe='')}"
        return found


class NativeMessages:
    """Messages from a caller who speaks them: the body as it came, `anthropic_beta` and `anthropic_version` being the
    caller's headers."""

    def encode(self, provider: Provider, model: str, body: Mapping[str, Any]) -> Call:
        sent = {name: value for name, value in body.items() if name not in EXTENSIONS} | {"model": model}
        sent["messages"], ignored = _own_thinking(sent["messages"])
        betas, version = sent.pop("anthropic_beta", None), sent.pop("anthropic_version", None)
        headers = {"anthropic-version": version} if isinstance(version, str) else VERSION
        if isinstance(betas, str):
            headers = {**headers, "anthropic-beta": betas}
        return Call("/v1/messages", orjson.dumps(sent), sent.get("stream") is True, headers, ignored)

    def framer(self, streamed: bool) -> Framer:
        return EventsFramer() if streamed else BodyFramer()

    def decoder(self, streamed: bool) -> Decoder:
        return NativeStreamDecoder() if streamed else NativeBodyDecoder()


def _own_thinking(messages: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """The messages without what other models thought, which has no signature and which the API refuses with 400 (it
    stands in a conversation that began at another provider); and the name of that, where there was any."""
    if not any(_unsigned(block) for message in messages for block in _blocks(message)):
        return messages, ()
    kept = []
    for message in messages:
        blocks = [block for block in _blocks(message) if not _unsigned(block)]
        if blocks or not _blocks(message):
            kept.append({**message, "content": blocks or message["content"]})
    return kept, ("messages[].thinking",)


def _blocks(message: dict[str, Any]) -> list[Any]:
    content = message.get("content")
    return content if isinstance(content, list) else []


def _unsigned(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") == "thinking" and not block.get("signature")


def _model(item: dict[str, Any]) -> ModelInfo:
    return ModelInfo(
        id=item["id"],
        type="text-generation",
        created=unix_seconds(item.get("created_at")),
        owned_by="anthropic",
        context_length=count(item.get("max_input_tokens")) or None,
        capabilities=_capabilities(item.get("capabilities")),
    )


def _capabilities(listed: Any) -> tuple[str, ...]:
    """The names of what is supported, of `{name: {supported: bool, …}}`."""
    if not isinstance(listed, dict):
        return ()
    return tuple(name for name, value in listed.items() if isinstance(value, dict) and value.get("supported") is True)
