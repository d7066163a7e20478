"""A family's speech for a model without tools: they are told in the prompt, and the calls found in its text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.upstreams.upstream import Call, Provider, Speech
from gateway.wire.tooltext.decoder import ToolTextDecoder
from gateway.wire.tooltext.formats import Format
from gateway.wire.tooltext.prompt import offers_tools, prompted
from gateway.wire.values import Decoder, Framer


class PromptedTools(Speech):
    """`inner`, for one request. `request_id` seeds the ids of calls."""

    def __init__(self, inner: Speech, format: Format, request_id: str) -> None:
        self._inner, self._format, self._request_id = inner, format, request_id
        self._offers = True

    def encode(self, provider: Provider, model: str, body: Mapping[str, Any]) -> Call:
        self._offers = offers_tools(body)
        return self._inner.encode(provider, model, prompted(body, self._format))

    def framer(self, streamed: bool) -> Framer:
        return self._inner.framer(streamed)

    def decoder(self, streamed: bool) -> Decoder:
        """Where no tool is on offer, nothing in the text is a call."""
        inner = self._inner.decoder(streamed)
        return ToolTextDecoder(inner, self._format, self._request_id) if self._offers else inner
