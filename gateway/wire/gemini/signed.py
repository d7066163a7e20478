"""Signed thinking of other providers' models as a part's `thoughtSignature`, which clients give back unread:
https://ai.google.dev/gemini-api/docs/thought-signatures. It is base64 there, of whichever kind."""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.wire.responses.sealed import seal, unseal

_URL_SAFE = str.maketrans("-_", "+/")


def signature(blocks: Sequence[Mapping[str, Any]]) -> str:
    """The blocks as the signature of a part."""
    return b64encode(seal(blocks).encode()).decode()


def signed_in(part: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The blocks that a part's signature stands for; none where it is another's."""
    try:
        return unseal(b64decode(usual(part.get("thought_signature") or ""), validate=True).decode())
    except (binascii.Error, ValueError):
        return []


def usual(data: str) -> str:
    """Base64 of either alphabet, padded or not (Google takes all four, and its Python client sends the URL-safe one),
    as the usual kind."""
    data = data.translate(_URL_SAFE)
    return data + "=" * (-len(data) % 4)
