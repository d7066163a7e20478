"""Blobs: bytes by their sha256. An event names the digest of what is too large, or too often repeated, to hold."""

from __future__ import annotations

from hashlib import sha256

from eventstore.errors import LogCorrupt

PLAIN = 0


def checked_blob(digest: bytes, row: tuple[int, bytes] | None) -> bytes:
    """The content of a blob's row `(codec, bytes)`. Raises `KeyError` without a row, `LogCorrupt` if it is damaged."""
    if row is None:
        raise KeyError(digest.hex())
    codec, content = row
    if what := damage(digest, codec, content):
        raise LogCorrupt(0, what)
    return content


def damage(digest: object, codec: object, content: object) -> str | None:
    """What is wrong with a blob's row, or None. A flipped bit can make any column another type."""
    if type(digest) is not bytes or type(content) is not bytes:
        return "a blob's column is not of the type that was written"
    if codec != PLAIN:
        return f"blob {digest.hex()} has the unknown codec {codec}"
    return None if sha256(content).digest() == digest else f"blob {digest.hex()} does not have that digest"
