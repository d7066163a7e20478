"""Signed thinking in a Responses conversation: an item's `encrypted_content` holds it, and the client gives it back.

Providers that sign what their models thought want it back unchanged while a turn goes on
(https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking). Chat carries it as a message's
`thinking_blocks`. What is sealed here is opaque to clients, not secret: the provider hid already what it wants hidden.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

ASKED = "reasoning.encrypted_content"
"""What a request names in `include` to get it."""
BLOCKS = "thinking_blocks"
"""Chat's name for it, and the trait of providers that take it."""
_MARK = "acsigned1."
_KINDS = ("thinking", "redacted_thinking")


def seal(blocks: Sequence[Mapping[str, Any]]) -> str:
    """The blocks as one text."""
    return _MARK + b64encode(orjson.dumps(blocks)).decode()


def unseal(text: Any) -> list[dict[str, Any]]:
    """The blocks; none where the text is not one that `seal` made."""
    if not isinstance(text, str) or not text.startswith(_MARK):
        return []
    try:
        blocks = orjson.loads(b64decode(text[len(_MARK) :], validate=True))
    except (binascii.Error, ValueError):
        return []
    whole = isinstance(blocks, list) and all(isinstance(b, dict) and b.get("type") in _KINDS for b in blocks)
    return blocks if whole else []


def unsigned(body: dict[str, Any]) -> dict[str, Any]:
    """A chat body without it, for a provider that would refuse it. Never mutates."""
    if not any(BLOCKS in message for message in body["messages"]):
        return body
    bare = [{name: value for name, value in message.items() if name != BLOCKS} for message in body["messages"]]
    return {**body, "messages": bare}
