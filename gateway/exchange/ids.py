"""Request ids: ULIDs (https://github.com/ulid/spec), so that they sort by time and say when the request came."""

from __future__ import annotations

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [a + b for a in ALPHABET for b in ALPHABET]
_VALUES = {letter: value for value, letter in enumerate(ALPHABET)}


def request_id(now_ms: int, entropy: bytes) -> str:
    """26 characters: 48 bits of milliseconds since 1970, 80 bits of entropy (10 bytes)."""
    value = now_ms << 80 | int.from_bytes(entropy, "big")
    pairs = _PAIRS
    return "".join([pairs[value >> shift & 1023] for shift in range(120, -1, -10)])


def created_s(request: str) -> int:
    """The second, since 1970, that the id was made in. Raises `KeyError` for what is no id."""
    ms = 0
    for letter in request[:10]:
        ms = ms << 5 | _VALUES[letter]
    return ms // 1000


def stream_of(request: str) -> str:
    """The log's stream of a request."""
    return f"request-{request}"
