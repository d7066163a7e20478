"""Every dialect that a `request_received` may name, in every version there ever was."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.wire.completions import CompletionsDialect
from gateway.wire.dialect import Dialect
from gateway.wire.embeddings import EmbeddingsDialect
from gateway.wire.forwarded import ImageEdits, Images, Moderations, Speech, Transcriptions, Translations
from gateway.wire.gemini.dialect import GenerateContentDialect
from gateway.wire.messages.dialect import MessagesDialect
from gateway.wire.openai_chat_dialect import ChatDialect
from gateway.wire.rerank import RerankDialect
from gateway.wire.responses.dialect import ResponsesDialect
from gateway.wire.structured import StructuredDialect

CHAT: Dialect = ChatDialect()
COMPLETIONS: Dialect = CompletionsDialect()
EMBEDDINGS: Dialect = EmbeddingsDialect()
GENERATE_CONTENT: Dialect = GenerateContentDialect()
IMAGES: Dialect = Images()
IMAGE_EDITS: Dialect = ImageEdits()
MESSAGES: Dialect = MessagesDialect()
MODERATIONS: Dialect = Moderations()
RERANK: Dialect = RerankDialect()
RESPONSES: Dialect = ResponsesDialect()
SPEECH: Dialect = Speech()
STRUCTURED: Dialect = StructuredDialect()
TRANSCRIPTIONS: Dialect = Transcriptions()
TRANSLATIONS: Dialect = Translations()

_ALL = (
    CHAT, COMPLETIONS, EMBEDDINGS, GENERATE_CONTENT, IMAGES, IMAGE_EDITS, MESSAGES, MODERATIONS, RERANK, RESPONSES,
    SPEECH, STRUCTURED, TRANSCRIPTIONS, TRANSLATIONS,
)  # fmt: skip
DIALECTS: Mapping[tuple[str, int], Dialect] = {(made.wire, made.version): made for made in _ALL}

NO_CHAT = frozenset(made.wire for made in DIALECTS.values() if not made.as_chat)
"""Protocols whose requests cannot be said as chat, and whose tokens cannot be guessed."""


def models_of_endpoints(said: str) -> Mapping[str, str]:
    """Protocol -> model, of a setting such as `audio/speech=openai/tts-1, moderations=openai/omni-moderation-latest`.
    Raises `ValueError`."""
    found: dict[str, str] = {}
    for row in filter(None, (row.strip() for row in said.split(","))):
        endpoint, _, model = (part.strip() for part in row.partition("="))
        wire = endpoint.replace("/", "_")
        if wire not in NO_CHAT or not model or wire in found:
            known = ", ".join(sorted(name.replace("_", "/", 1) for name in NO_CHAT))
            raise ValueError(f"{row!r} is not endpoint=model, or there twice; endpoints are {known}")
        found[wire] = model
    return found
