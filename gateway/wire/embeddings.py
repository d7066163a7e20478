"""Embeddings as a caller's protocol: https://platform.openai.com/docs/api-reference/embeddings

Providers differ in whether they give vectors as numbers or in base64; the client gets what it asked for.
"""

from __future__ import annotations

import struct
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import orjson
from pydantic import ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from gateway.errors import openai_error_body
from gateway.wire.dialect import Dialect, Form, Renderer
from gateway.wire.openai_chat_request import Credential, Text, refuse_stream, validate
from gateway.wire.values import Fold, Piece, WireError

Tokens = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


@with_config(ConfigDict(extra="allow", strict=True))
class EmbeddingsRequest(TypedDict, total=False):
    """Texts or tokens: the fields that are checked. Others pass."""

    model: Text | None
    input: (
        Annotated[str, Field(min_length=1)]
        | Tokens
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
        | Annotated[list[Tokens], Field(min_length=1)]
    )
    dimensions: Annotated[int, Field(gt=0)] | None
    encoding_format: Literal["float", "base64"] | None
    user: str | None
    metadata: dict[str, str] | None
    api_key: Credential | None
    base_url: str | None
    session_id: str | None


_ADAPTER: TypeAdapter[EmbeddingsRequest] = TypeAdapter(EmbeddingsRequest)


class EmbeddingsDialect(Dialect):
    """Texts in, vectors out, in the order of the texts."""

    wire = "embeddings"
    version = 1
    as_chat = False

    def check(self, body: Mapping[str, Any]) -> None:
        validate(_ADAPTER, body, "input")
        refuse_stream(body)

    def options(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        return {"encoding_format": body.get("encoding_format") or "float"}

    def renderer(self, form: Form) -> Renderer:
        return EmbeddingsBody(form)

    def error_body(self, status: int, error: Mapping[str, Any]) -> bytes:
        return orjson.dumps(openai_error_body(error))


class EmbeddingsBody:
    """Renders the list of vectors."""

    def __init__(self, form: Form) -> None:
        self._form = form

    def pieces(self, pieces: Sequence[Piece]) -> bytes:
        """Nothing: a body is released whole."""
        return b""

    def completed(self, fold: Fold) -> bytes:
        """The body. Raises `WireError` where the provider's is not one of vectors."""
        try:
            value = orjson.loads(fold.body or b"null")
        except orjson.JSONDecodeError as error:  # such as NaN, which the decoder lets pass
            raise WireError("the upstream's answer is not JSON") from error
        items = value.get("data") if isinstance(value, dict) else None
        if not isinstance(items, list):
            raise WireError("the upstream's answer has no vectors")
        encode = _encoded if self._form.options["encoding_format"] == "base64" else _numbers
        try:
            data = [{**item, "embedding": encode(item["embedding"])} for item in items]
        except (TypeError, KeyError, ValueError, OverflowError, struct.error) as error:
            raise WireError("the upstream sent a vector that is none") from error
        usage = value.get("usage") or {"prompt_tokens": 0, "total_tokens": 0}
        return orjson.dumps({"object": "list", "data": data, "model": self._form.model, "usage": usage})

    def failed(self, error: Mapping[str, Any]) -> bytes:
        """The error body."""
        return orjson.dumps(openai_error_body(error))


def _numbers(vector: Any) -> list[Any]:
    """From little-endian 32-bit floats in base64, as OpenAI sends them, or from numbers."""
    if isinstance(vector, list):
        return vector
    data = b64decode(vector)
    return list(struct.unpack(f"<{len(data) // 4}f", data))


def _encoded(vector: Any) -> str:
    if isinstance(vector, str):
        return vector
    return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
