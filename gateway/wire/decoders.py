"""Every decoder that a `generation_started` may name, in every version there ever was."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.wire.anthropic_messages import MessagesBodyDecoder, MessagesStreamDecoder
from gateway.wire.completions_answer import TextBodyDecoder, TextStreamDecoder
from gateway.wire.ollama import OllamaChatDecoder
from gateway.wire.openai_chat import ChatBodyDecoder, ChatStreamDecoder
from gateway.wire.tooltext.decoder import ToolTextDecoder
from gateway.wire.tooltext.formats import FORMATS
from gateway.wire.values import Decoder
from gateway.wire.whole_answers import JsonDecoder, OllamaEmbedDecoder, RawDecoder, TranscriptDecoder

DECODERS: Mapping[str, Callable[[], Decoder]] = {
    made.name: made
    for made in (
        ChatStreamDecoder,
        ChatBodyDecoder,
        MessagesStreamDecoder,
        MessagesBodyDecoder,
        OllamaChatDecoder,
        TextStreamDecoder,
        TextBodyDecoder,
        JsonDecoder,
        RawDecoder,
        TranscriptDecoder,
        OllamaEmbedDecoder,
    )
}

_TOOL_TEXT = {format.suffix: format for format in FORMATS.values()}


def decoder_named(name: str, seed: str) -> Decoder | None:
    """The decoder that an event names, a family's own or one around it: None where there never was such a one. `seed`
    is the request's id."""
    own, plus, around = name.partition("+")
    made = DECODERS.get(own)
    if made is None or not plus:
        return made and made()
    format = _TOOL_TEXT.get(around)
    return format and ToolTextDecoder(made(), format, seed)
