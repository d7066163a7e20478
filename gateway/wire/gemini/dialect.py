"""Google's generateContent as a dialect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.wire.dialect import Dialect, Form, Renderer
from gateway.wire.gemini import request
from gateway.wire.gemini.answer import ARRAY, THOUGHTS, GenerateBody, GenerateStream
from gateway.wire.gemini.errors import error_body

LEFT_OUT = "left_out"


def as_chat(body: Mapping[str, Any], model: str, streamed: bool, array: bool = False) -> dict[str, Any]:
    """What is used of a request that was checked: the same as chat, since a path says half of it, with what is left out
    under `LEFT_OUT`. `array`: a stream without SSE, which is given whole. Raises `InvalidRequest`."""
    asked = request.read(body)
    options = {LEFT_OUT: [*request.left_out(asked)], THOUGHTS: request.wants_thoughts(asked), ARRAY: array}
    return {**request.extensions(body), **request.chat(asked), "model": model, "stream": streamed, **options}


class GenerateContentDialect(Dialect):
    """https://ai.google.dev/api/generate-content. What `check` sees is Google's; all others get what `as_chat` made of
    it."""

    wire = "generate_content"
    version = 1
    signs = True
    key_in_url = True
    ping = b"\n"
    """google-genai takes a comment for a piece of the answer."""

    def check(self, body: Mapping[str, Any]) -> None:
        request.check(body)

    def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in body.items() if name not in (LEFT_OUT, THOUGHTS, ARRAY)}

    def ignored(self, body: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(body.get(LEFT_OUT, ()))

    def options(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        return {name: True for name in (THOUGHTS, ARRAY) if body.get(name)} or None

    def renderer(self, form: Form) -> Renderer:
        return GenerateStream(form) if form.streamed else GenerateBody(form)

    def error_body(self, status: int, error: Mapping[str, Any]) -> bytes:
        return error_body(status, error)
