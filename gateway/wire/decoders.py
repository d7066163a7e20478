"""Every decoder that a `generation_started` may name, in every version there ever was."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from eventstore.errors import UnknownEventType
from gateway.wire.anthropic_messages import MessagesBodyDecoder, MessagesStreamDecoder
from gateway.wire.completions_answer import TextBodyDecoder, TextStreamDecoder
from gateway.wire.messages.native import NativeBodyDecoder, NativeStreamDecoder
from gateway.wire.ollama import OllamaChatDecoder
from gateway.wire.openai_chat import ChatBodyDecoder, ChatBodyDecoder1, ChatStreamDecoder, ChatStreamDecoder1
from gateway.wire.tooltext.decoder import ToolTextDecoder
from gateway.wire.tooltext.formats import FORMATS
from gateway.wire.values import Decoder
from gateway.wire.whole_answers import (
    JsonDecoder,
    OllamaEmbedDecoder,
    RawDecoder,
    RerankDecoder,
    SpeechDecoder,
    TranscriptDecoder,
)

DECODERS: Mapping[str, Callable[[], Decoder]] = {
    made.name: made
    for made in (
        ChatStreamDecoder,
        ChatStreamDecoder1,
        ChatBodyDecoder,
        ChatBodyDecoder1,
        MessagesStreamDecoder,
        MessagesBodyDecoder,
        NativeStreamDecoder,
        NativeBodyDecoder,
        OllamaChatDecoder,
        TextStreamDecoder,
        TextBodyDecoder,
        JsonDecoder,
        RawDecoder,
        SpeechDecoder,
        TranscriptDecoder,
        OllamaEmbedDecoder,
        RerankDecoder,
    )
}

_TOOL_TEXT = {format.suffix: format for format in FORMATS.values()}


def decoder_named(name: str, request_id: str) -> Decoder:
    """The decoder that an event names, a family's own or one around it. Raises `UnknownEventType` where there never was
    such a one."""
    own, plus, around = name.partition("+")
    made, format = DECODERS.get(own), _TOOL_TEXT.get(around)
    if made is None or (plus and format is None):
        raise UnknownEventType(f"decoder {name}")
    return made() if format is None else ToolTextDecoder(made(), format, request_id)
