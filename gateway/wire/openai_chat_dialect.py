"""OpenAI's chat completions as a caller's protocol: the one that all the others are translated to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.errors import openai_error_body
from gateway.wire.dialect import Dialect, Form, Renderer
from gateway.wire.openai_chat_answer import RENDERER, ChatBody, ChatStream
from gateway.wire.openai_chat_request import check
from gateway.wire.rounds import Rounds
from gateway.wire.tooltext.rewrite import TaggedRenderer, tags_of


class ChatDialect(Dialect):
    """https://platform.openai.com/docs/api-reference/chat"""

    wire = "openai_chat"
    version = RENDERER

    def check(self, body: Mapping[str, Any]) -> None:
        check(body)
        tags_of(body.get("agent_format"))

    def options(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        tags = tags_of(body.get("agent_format"))
        options: dict[str, Any] = {} if tags is None else {"tool_call_tags": list(tags)}
        if body.get("execute_tools"):
            options["execute_tools"] = True
        return options or None

    def renderer(self, form: Form) -> Renderer:
        made: Renderer
        if form.streamed:
            made = ChatStream(form.request_id, form.created, form.model, form.include_usage)
        else:
            made = ChatBody(form.request_id, form.created, form.model)
        tags = form.options.get("tool_call_tags")
        if tags:
            made = TaggedRenderer(made, (tags[0], tags[1]))
        return Rounds(made) if form.options.get("execute_tools") else made

    def error_body(self, status: int, error: Mapping[str, Any]) -> bytes:
        return orjson.dumps(openai_error_body(error))
