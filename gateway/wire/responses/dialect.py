"""OpenAI's Responses as a dialect."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import orjson

from gateway.errors import openai_error_body
from gateway.wire.dialect import Dialect, Form, Renderer
from gateway.wire.responses import request
from gateway.wire.responses.answer import ResponsesBody, ResponsesStream
from gateway.wire.responses.custom import CUSTOM_TOOLS, as_functions
from gateway.wire.responses.objects import options_of


class ResponsesDialect(Dialect):
    """https://platform.openai.com/docs/api-reference/responses"""

    wire = "responses"
    version = 1
    signs = True

    def check(self, body: Mapping[str, Any]) -> None:
        request.check(body)

    def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        return request.chat(body)

    def ignored(self, body: Mapping[str, Any]) -> tuple[str, ...]:
        return request.ignored(body)

    def fitted(self, chat: dict[str, Any], traits: Set[str]) -> dict[str, Any]:
        return chat if CUSTOM_TOOLS in traits else as_functions(chat)

    def unfit(self, body: Mapping[str, Any], traits: Set[str]) -> tuple[str, ...]:
        return request.unfit(body, traits)

    def options(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        return options_of(body)

    def renderer(self, form: Form) -> Renderer:
        return ResponsesStream(form) if form.streamed else ResponsesBody(form)

    def error_body(self, status: int, error: Mapping[str, Any]) -> bytes:
        return orjson.dumps(openai_error_body(error))
