"""Old completions, read: like chat completions, but a choice has `text` where those have a delta or a message.

https://platform.openai.com/docs/api-reference/completions/object
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from eventstore.frames import Template
from gateway.wire.fastlane import loads_lenient
from gateway.wire.openai_chat import DONE, ChatBodyDecoder, ChatStreamDecoder
from gateway.wire.sse import events_in, read_frame
from gateway.wire.values import Piece
from gateway.wire.whole_body import WholeDecoder


class TextStreamDecoder(ChatStreamDecoder):
    """Reads `data: {text_completion}` frames."""

    name = "openai_text_stream.1"
    __slots__ = ()

    def template(self, frames: Sequence[bytes], known: Template | None) -> tuple[int, Template] | None:
        """None: these answers are rare."""
        return None

    def _frame(self, frame: bytes, pieces: list[Piece]) -> None:
        _, data = read_frame(frame)
        if data is None or data.strip() == DONE:
            super()._frame(frame, pieces)
        else:
            super()._frame(b"data: " + orjson.dumps(_as_chat(loads_lenient(data), "delta")), pieces)

    def _body_decoder(self) -> WholeDecoder:
        return TextBodyDecoder()


class TextBodyDecoder(ChatBodyDecoder):
    """Reads one whole `text_completion` body."""

    name = "openai_text_body.1"
    __slots__ = ()

    def body(self, frame: bytes) -> list[Piece]:
        if (events := events_in(frame)) is not None:
            return self._streamed(TextStreamDecoder(), events)
        return super().body(orjson.dumps(_as_chat(loads_lenient(frame), "message")))


def _as_chat(value: Any, field: str) -> Any:
    choices = value.get("choices") if isinstance(value, dict) else None
    if not isinstance(choices, list):
        return value
    return {**value, "choices": [_choice(choice, field) for choice in choices]}


def _choice(choice: Any, field: str) -> Any:
    if not isinstance(choice, dict):
        return choice
    return {**choice, field: {"content": choice.get("text")}}
