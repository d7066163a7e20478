"""What the families share that answer in OpenAI's chat format: how their answers are framed, decoded and refused."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from gateway.upstreams.upstream import Provider
from gateway.wire.openai_chat import ChatBodyDecoder, ChatStreamDecoder
from gateway.wire.values import Decoder, Framer, UpstreamError
from gateway.wire.whole_body import BodyFramer, EventsFramer


class ChatSpoken:
    """A family that speaks it, wherever it runs."""

    def framer(self, streamed: bool) -> Framer:
        return EventsFramer() if streamed else BodyFramer()

    def decoder(self, streamed: bool) -> Decoder:
        return ChatStreamDecoder() if streamed else ChatBodyDecoder()


class OwnAnswers(ChatSpoken):
    """A family whose answers are made in this server: no credentials, and errors that are ours."""

    def auth_headers(self, provider: Provider, api_key: str | None) -> dict[str, str]:
        return {}

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        error = orjson.loads(body)["error"]
        return UpstreamError(error["message"], status, type=error["type"], code=error["code"], param=error["param"])
