"""Images, audio and moderations as callers' protocols: a request that passes as it came, and an answer as it came back.

https://platform.openai.com/docs/api-reference/images, …/audio, …/moderations
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from pydantic import ConfigDict, TypeAdapter, with_config
from typing_extensions import TypedDict

from gateway.errors import InvalidRequest, MissingParameter, UnsupportedParameter, openai_error_body
from gateway.wire.dialect import Dialect, Form, Renderer
from gateway.wire.fastlane import loads_lenient
from gateway.wire.openai_chat_request import Credential, Text, validate
from gateway.wire.values import Fold, Piece, WireError

JSON = "application/json"
SPEECH_TYPES: Mapping[str, str] = {
    "mp3": "audio/mpeg",
    "opus": "audio/opus",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
TRANSCRIPT_TYPES: Mapping[str, str] = {
    "json": JSON,
    "verbose_json": JSON,
    "diarized_json": JSON,
    "text": "text/plain; charset=utf-8",
    "srt": "text/plain; charset=utf-8",
    "vtt": "text/plain; charset=utf-8",
}


@with_config(ConfigDict(extra="allow", strict=True))
class ForwardedRequest(TypedDict, total=False):
    """What is looked at all the same."""

    model: Text | None
    user: str | None
    safety_identifier: str | None
    session_id: str | None
    api_key: Credential | None
    base_url: str | None


_ADAPTER: TypeAdapter[ForwardedRequest] = TypeAdapter(ForwardedRequest)


class Forwarded(Dialect):
    """A protocol that is not looked into. `required` are the fields that must be there; `types`: the content type of an
    answer by the request's `response_format`, the first being the usual one; empty where it is always JSON."""

    as_chat = False
    version = 1
    required: tuple[str, ...] = ()
    types: Mapping[str, str] = {}

    def check(self, body: Mapping[str, Any]) -> None:
        for name in self.required:
            if body.get(name) in (None, "", []):
                raise MissingParameter(name)
        validate(_ADAPTER, body)
        if str(body.get("stream")).lower() not in ("none", "false", "0", ""):
            raise UnsupportedParameter("The answer of this endpoint cannot be streamed.", param="stream")
        if body.get("stream_format") not in (None, "audio"):
            raise UnsupportedParameter("The answer of this endpoint cannot be streamed.", param="stream_format")
        if self.types and self._format(body) not in self.types:
            known = ", ".join(self.types)
            raise InvalidRequest(f"'response_format' must be one of {known}.", param="response_format")

    def common(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        return {name: value for name, value in body.items() if name not in ("stream", "metadata")}

    def options(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        return {"content_type": self.types[self._format(body)]} if self.types else None

    def content_type(self, form: Form) -> str:
        kind: str = form.options.get("content_type", JSON)
        return kind

    def renderer(self, form: Form) -> Renderer:
        return AsItCame(form)

    def error_body(self, status: int, error: Mapping[str, Any]) -> bytes:
        return orjson.dumps(openai_error_body(error))

    def _format(self, body: Mapping[str, Any]) -> str:
        return str(body.get("response_format") or next(iter(self.types)))


class Images(Forwarded):
    wire = "images_generations"
    required = ("prompt",)


class ImageEdits(Forwarded):
    wire = "images_edits"
    required = ("prompt", "image")


class Moderations(Forwarded):
    wire = "moderations"
    required = ("input",)


class Speech(Forwarded):
    """`voice` is for the provider to demand: a backend can have one of its own. `format` is what the original
    AbstractCore server called `response_format`."""

    wire = "audio_speech"
    required = ("input",)
    types = SPEECH_TYPES

    def _format(self, body: Mapping[str, Any]) -> str:
        return str(body.get("response_format") or body.get("format") or next(iter(self.types)))


class Transcriptions(Forwarded):
    wire = "audio_transcriptions"
    required = ("file",)
    types = TRANSCRIPT_TYPES


class Translations(Transcriptions):
    """The same, in English."""

    wire = "audio_translations"


class AsItCame:
    """Renders what the provider sent."""

    def __init__(self, form: Form) -> None:
        self._is_json = form.options.get("content_type") == JSON

    def pieces(self, pieces: Sequence[Piece]) -> bytes:
        """Nothing: a body is released whole."""
        return b""

    def completed(self, fold: Fold) -> bytes:
        """The body. Raises `WireError` where it is not the JSON that was asked for."""
        body = fold.body or b""
        if self._is_json and not isinstance(loads_lenient(body), dict):
            raise WireError("the upstream's answer is not a JSON object")
        return body

    def failed(self, error: Mapping[str, Any]) -> bytes:
        """The error body."""
        return orjson.dumps(openai_error_body(error))
