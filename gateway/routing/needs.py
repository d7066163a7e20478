"""What a request needs of the model that takes it, read from its chat body. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.exchange.estimate import BYTES_PER_TOKEN
from gateway.routing.order import Asked

IMAGES = frozenset({"image_url", "input_image"})
SOUNDS = frozenset({"input_audio"})
SCHEMAS = frozenset({"json_schema", "json_object"})


def asked_of(chat: Mapping[str, Any], length: int, hears: bool) -> Asked:
    """From a body of `length` bytes. `hears`: models get sound as it is, and not as its text."""
    kinds = {part.get("type") for part in _parts(chat)}
    files = bool(kinds - {"text"})
    return Asked(
        images=bool(kinds & IMAGES),
        audio=hears and bool(kinds & SOUNDS),
        tools=bool(chat.get("tools")),
        schema=_wants_schema(chat.get("response_format")),
        tokens=_tokens(chat, length, files) + _most_tokens(chat),
    )


def _parts(chat: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for content in _contents(chat):
        if isinstance(content, list):
            yield from (part for part in content if isinstance(part, dict))


def _contents(chat: Mapping[str, Any]) -> Iterator[Any]:
    for message in chat.get("messages") or ():
        if isinstance(message, dict):
            yield message.get("content")


def _wants_schema(form: Any) -> bool:
    return isinstance(form, dict) and form.get("type") in SCHEMAS


def _tokens(chat: Mapping[str, Any], length: int, files: bool) -> int:
    """An estimate of the prompt's; files are left out, since their bytes say nothing of their tokens."""
    if files:
        length = sum(len(text) for text in _texts(chat))
    return -(-length // BYTES_PER_TOKEN)


def _texts(chat: Mapping[str, Any]) -> Iterator[str]:
    for content in _contents(chat):
        if isinstance(content, str):
            yield content
    for part in _parts(chat):
        if isinstance(text := part.get("text"), str):
            yield text


def _most_tokens(chat: Mapping[str, Any]) -> int:
    """How long the answer may be, 0 where the request does not say."""
    given = chat.get("max_completion_tokens") or chat.get("max_tokens")
    return given if type(given) is int and given > 0 else 0
