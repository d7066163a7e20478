"""Answers without messages: a body that is one frame, and what reads it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from eventstore.frames import Part, Template
from gateway.wire.values import Piece, WireError

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


class WholeDecoder(ABC):
    """Reads a body that is the single frame of its generation."""

    name: str
    __slots__ = ("_finished",)

    def __init__(self) -> None:
        self._finished = False

    @property
    def complete(self) -> bool:
        return self._finished

    def template(self, frames: Sequence[bytes]) -> tuple[int, Template] | None:
        return None

    def decode(self, parts: Sequence[Part], template: Template | None) -> list[Piece]:
        return [piece for part in parts if isinstance(part, bytes) for piece in self.body(part)]

    @abstractmethod
    def body(self, frame: bytes) -> list[Piece]:
        """What the body means; notes that it is `_finished` where it is whole. Raises `WireError`."""
