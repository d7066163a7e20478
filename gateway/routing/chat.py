"""What a chat body says, in OpenAI's format; what is no such thing is passed over. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

SCHEMAS = ("json_schema", "json_object")


def messages(chat: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Its messages."""
    return [message for message in chat.get("messages") or () if isinstance(message, dict)]


def parts(message: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The parts of a message that is given in parts."""
    content = message.get("content")
    if isinstance(content, list):
        yield from (part for part in content if isinstance(part, dict))


def texts(message: Mapping[str, Any]) -> Iterator[str]:
    """The texts of a message."""
    content = message.get("content")
    if isinstance(content, str):
        yield content
    for part in parts(message):
        if isinstance(text := part.get("text"), str):
            yield text


def last_user_text(chat: Mapping[str, Any]) -> str:
    """What the user said last, empty where that had no words."""
    for message in reversed(messages(chat)):
        if message.get("role") == "user":
            return "\n".join(texts(message))
    return ""


def wants_schema(chat: Mapping[str, Any]) -> bool:
    """Whether the answer must be JSON of some form."""
    form = chat.get("response_format")
    return isinstance(form, dict) and form.get("type") in SCHEMAS


def most_tokens(chat: Mapping[str, Any]) -> int:
    """How long the answer may be, 0 where the request does not say."""
    given = chat.get("max_completion_tokens") or chat.get("max_tokens")
    return given if type(given) is int and given > 0 else 0
