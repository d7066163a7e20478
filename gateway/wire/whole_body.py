"""Framing without messages: a body that is one frame."""

from __future__ import annotations

from gateway.wire.values import WireError

BODY_LIMIT = 64 << 20
"""Bytes an answer may have, whole or streamed."""
TOO_LARGE = "the provider's answer is larger than 64 MiB"


class BodyFramer:
    """Collects a body; it is one frame, given at its end."""

    __slots__ = ("_length", "_parts")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Nothing yet. Raises `WireError` for a body over `BODY_LIMIT`."""
        self._length += len(data)
        if self._length > BODY_LIMIT:
            raise WireError(TOO_LARGE)
        self._parts.append(data)
        return []

    def end(self) -> list[bytes]:
        """The body, if there was one."""
        body = b"".join(self._parts)
        self._parts.clear()
        return [body] if body.strip() else []
