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
    if codec != PLAIN:
        raise LogCorrupt(0, f"blob {digest.hex()} has the unknown codec {codec}")
    if sha256(content).digest() != digest:
        raise LogCorrupt(0, f"blob {digest.hex()} does not have that digest")
    return content
