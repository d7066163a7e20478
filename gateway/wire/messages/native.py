"""An Anthropic upstream's answer for a caller who speaks Messages: each frame is read, and passes as it is."""

from __future__ import annotations

from collections.abc import Sequence

from eventstore.frames import Part, Template
from gateway.wire.anthropic_messages import MessagesBodyDecoder, MessagesStreamDecoder
from gateway.wire.fastlane import whole_frames
from gateway.wire.sse import events_in, read_frame
from gateway.wire.values import Meta, Piece, Raw


class NativeStreamDecoder(MessagesStreamDecoder):
    """The event stream. An error is no frame to pass: it ends the answer in our own words."""

    name = "anthropic_messages_native_stream.1"
    __slots__ = ()

    def decode(self, parts: Sequence[Part], template: Template | None) -> list[Piece]:
        pieces: list[Piece] = []
        for part in parts:
            for frame in [part] if isinstance(part, bytes) else whole_frames(part, template):
                pieces += self._passed(frame)
        return pieces

    def _passed(self, frame: bytes) -> list[Piece]:
        meant = self._frame(frame)
        if read_frame(frame)[1] is None or any(isinstance(piece, Meta) and piece.error for piece in meant):
            return meant
        return [Raw(frame), *meant]


class NativeBodyDecoder(MessagesBodyDecoder):
    """The whole message."""

    name = "anthropic_messages_native_body.1"
    __slots__ = ()

    def body(self, frame: bytes) -> list[Piece]:
        meant = super().body(frame)
        return meant if events_in(frame) is not None else [Raw(frame), *meant]
