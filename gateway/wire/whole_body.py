"""Answers without messages: a body that is one frame, and what reads it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from eventstore.frames import Part, Template
from gateway.wire.sse import SSEFramer
from gateway.wire.values import Decoder, Piece, WireError

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


class EventsFramer:
    """Cuts an event stream, or gives the JSON body that some servers answer with instead, as one frame: no event begins
    like it. The first byte that is not blank tells them apart; their content types are not to be relied on."""

    __slots__ = ("end", "feed")

    feed: Callable[[bytes], list[bytes]]
    end: Callable[[], list[bytes]]

    def __init__(self) -> None:
        self.feed, self.end = self._first, list

    def _first(self, data: bytes) -> list[bytes]:
        if not (said := data.lstrip()):
            return []
        framer = BodyFramer() if said.startswith(b"{") else SSEFramer()
        self.feed, self.end = framer.feed, framer.end
        return framer.feed(data)


def is_body(frame: bytes) -> bool:
    """Whether a frame of an `EventsFramer` is such a body."""
    return frame.lstrip().startswith(b"{")


class WholeDecoder(ABC):
    """Reads a body that is the single frame of its generation."""

    name: str
    __slots__ = ("_finished",)

    def __init__(self) -> None:
        self._finished = False

    @property
    def complete(self) -> bool:
        return self._finished

    def template(self, frames: Sequence[bytes], known: Template | None) -> tuple[int, Template] | None:
        return None

    def decode(self, parts: Sequence[Part], template: Template | None) -> list[Piece]:
        return [piece for part in parts if isinstance(part, bytes) for piece in self.body(part)]

    def _streamed(self, decoder: Decoder, events: Sequence[bytes]) -> list[Piece]:
        """The answer as the stream that it came in, though a body was asked for."""
        pieces = decoder.decode(events, None)
        self._finished = decoder.complete
        return pieces

    @abstractmethod
    def body(self, frame: bytes) -> list[Piece]:
        """What the body means; notes that it is `_finished` where it is whole. Raises `WireError`."""
