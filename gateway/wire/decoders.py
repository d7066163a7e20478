"""Every decoder that a `generation_started` may name, in every version there ever was."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.wire.anthropic_messages import MessagesBodyDecoder, MessagesStreamDecoder
from gateway.wire.ollama import OllamaChatDecoder
from gateway.wire.openai_chat import ChatBodyDecoder, ChatStreamDecoder
from gateway.wire.values import Decoder

DECODERS: Mapping[str, Callable[[], Decoder]] = {
    made.name: made
    for made in (
        ChatStreamDecoder,
        ChatBodyDecoder,
        MessagesStreamDecoder,
        MessagesBodyDecoder,
        OllamaChatDecoder,
    )
}
