"""Request ids: ULIDs (https://github.com/ulid/spec), so that they sort by time and say when the request came; and the
streams of the log that they name."""

from __future__ import annotations

from functools import lru_cache

REQUESTS = "request-"
"""What the streams of requests begin with."""
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
ENTROPY_BYTES = 16
_DIGITS = {ord(letter): digit for letter, digit in zip(ALPHABET, "0123456789abcdefghijklmnopqrstuv", strict=True)}
"""From Crockford's letters to those that `int` reads."""
_LETTERS = bytes(ord(ALPHABET[byte & 31]) for byte in range(256))


def request_id(now_ms: int, entropy: bytes) -> str:
    """26 characters: 48 bits of milliseconds since 1970, 80 bits of entropy (five of each of 16 bytes)."""
    return _time(now_ms) + entropy.translate(_LETTERS).decode()


@lru_cache(maxsize=8)
def _time(now_ms: int) -> str:
    """The first ten letters, which those of one millisecond share."""
    return "".join([ALPHABET[now_ms >> shift & 31] for shift in range(45, -1, -5)])


def created_s(request: str) -> int:
    """The second, since 1970, that an id of ours was made in."""
    return int(request[:10].translate(_DIGITS), 32) // 1000


def stream_of(request: str) -> str:
    """The log's stream of a request."""
    return f"{REQUESTS}{request}"
