"""OpenAI's chat completions as a caller's protocol: the one that all the others are translated to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.errors import openai_error_body
from gateway.wire.dialect import Dialect, Form, Renderer
from gateway.wire.openai_chat_answer import RENDERER, ChatBody, ChatStream
from gateway.wire.openai_chat_request import check


class ChatDialect(Dialect):
    """https://platform.openai.com/docs/api-reference/chat"""

    wire = "openai_chat"
    version = RENDERER

    def check(self, body: Mapping[str, Any]) -> None:
        check(body)

    def renderer(self, form: Form) -> Renderer:
        if form.streamed:
            return ChatStream(form.request_id, form.created, form.model, form.include_usage)
        return ChatBody(form.request_id, form.created, form.model)

    def error_body(self, status: int, error: Mapping[str, Any]) -> bytes:
        return orjson.dumps(openai_error_body(error))
