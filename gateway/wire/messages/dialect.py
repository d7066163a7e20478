"""Anthropic's Messages as a dialect."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import orjson

from gateway.wire.dialect import Dialect, Form, Renderer
from gateway.wire.messages import request
from gateway.wire.messages.answer import MessagesBody, MessagesStream
from gateway.wire.messages.errors import error_object


class MessagesDialect(Dialect):
    """https://docs.anthropic.com/en/api/messages"""

    wire = "messages"
    version = 1
    id_header = "request-id"

    def check(self, body: Mapping[str, Any]) -> None:
        request.check(body)

    def common(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Their `metadata` holds the user's id and nothing else."""
        said = {name: value for name, value in body.items() if name != "metadata"}
        user = request.user_of(body)
        return said | {"user": user} if user else said

    def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        return request.chat(body)

    def ignored(self, body: Mapping[str, Any]) -> tuple[str, ...]:
        return request.ignored(body)

    def fitted(self, chat: dict[str, Any], traits: Set[str]) -> dict[str, Any]:
        return request.fitted(chat, traits)

    def unfit(self, body: Mapping[str, Any], traits: Set[str]) -> tuple[str, ...]:
        return request.unfit(body, traits)

    def renderer(self, form: Form) -> Renderer:
        return MessagesStream(form) if form.streamed else MessagesBody(form)

    def error_body(self, status: int, error: Mapping[str, Any]) -> bytes:
        return orjson.dumps(error_object(status, error))

    def error_answer(self, status: int, error: Mapping[str, Any], request_id: str) -> bytes:
        return orjson.dumps(error_object(status, error, request_id))
