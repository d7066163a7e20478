"""What a request needs of the model that takes it, read from its chat body. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.exchange.estimate import BYTES_PER_TOKEN
from gateway.routing.chat import messages, most_tokens, parts, texts, wants_schema
from gateway.routing.order import Asked

IMAGES = frozenset({"image_url", "input_image"})
SOUNDS = frozenset({"input_audio"})


def asked_of(chat: Mapping[str, Any], hears: bool) -> Asked:
    """`hears`: models get sound as it is, and not as its text."""
    kinds = {str(part.get("type")) for message in messages(chat) for part in parts(message)}
    files = bool(kinds - {"text"})
    return Asked(
        images=bool(kinds & IMAGES),
        audio=hears and bool(kinds & SOUNDS),
        tools=bool(chat.get("tools")),
        schema=wants_schema(chat),
        tokens=_tokens(chat, files) + most_tokens(chat),
    )


def _tokens(chat: Mapping[str, Any], files: bool) -> int:
    """An estimate of the prompt's, with what a session or a response before it says, and however its caller escaped
    it; files are left out, since their bytes say nothing of their tokens."""
    said = (len(text) for message in messages(chat) for text in texts(message))
    return -(-(sum(said) if files else len(orjson.dumps(chat))) // BYTES_PER_TOKEN)
