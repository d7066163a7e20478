"""What families speak besides chat: a request in such a protocol reaches them as it came, untranslated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.upstreams.anthropic import NativeMessages
from gateway.upstreams.local.family import LocalEmbeddings, LocalReranking
from gateway.upstreams.openai_compatible import set_stream_options
from gateway.upstreams.upstream import Call, Provider, Speech
from gateway.wire import multipart
from gateway.wire.chat_request import EXTENSIONS
from gateway.wire.completions import echoed
from gateway.wire.completions_answer import TextBodyDecoder, TextStreamDecoder
from gateway.wire.values import Decoder, Framer, Unsupported
from gateway.wire.whole_answers import JsonDecoder, OllamaEmbedDecoder, RerankDecoder, SpeechDecoder, TranscriptDecoder
from gateway.wire.whole_body import BodyFramer, EventsFramer


@dataclass(frozen=True, slots=True)
class Whole:
    """A protocol whose answers are one body each. `form`: its requests are multipart forms."""

    path: str
    reads: Callable[[], Decoder] = JsonDecoder
    form: bool = False

    def encode(self, provider: Provider, model: str, body: Mapping[str, Any]) -> Call:
        sent = {key: value for key, value in body.items() if key not in EXTENSIONS} | {"model": model}
        if not self.form:
            return Call(self.path, orjson.dumps(sent), streamed=False)
        content_type, data = multipart.encode(sent)
        return Call(self.path, data, streamed=False, headers={"content-type": content_type})

    def framer(self, streamed: bool) -> Framer:
        return BodyFramer()

    def decoder(self, streamed: bool) -> Decoder:
        return self.reads()


class SpokenText(Whole):
    """https://platform.openai.com/docs/api-reference/audio/createSpeech, which does not know `format`."""

    def encode(self, provider: Provider, model: str, body: Mapping[str, Any]) -> Call:
        sent = dict(body)
        asked = sent.pop("format", None)
        if asked and not sent.get("response_format"):
            sent["response_format"] = asked
        return Whole.encode(self, provider, model, sent)


class Reranking(Whole):
    """A document that is no more than its text goes as that: vLLM and llama.cpp take no objects."""

    def encode(self, provider: Provider, model: str, body: Mapping[str, Any]) -> Call:
        documents = [each["text"] if isinstance(each, dict) and len(each) == 1 else each for each in body["documents"]]
        return Whole.encode(self, provider, model, {**body, "documents": documents})


class Completions:
    """The old completions, where a server has them. A prompt that we can repeat ourselves we do repeat ourselves."""

    def encode(self, provider: Provider, model: str, body: Mapping[str, Any]) -> Call:
        sent = {key: value for key, value in body.items() if key not in EXTENSIONS} | {"model": model}
        if echoed(body):
            del sent["echo"]
        streamed = sent.get("stream") is True
        if streamed:
            set_stream_options(sent, provider)
        return Call("/completions", orjson.dumps(sent), streamed)

    def framer(self, streamed: bool) -> Framer:
        return EventsFramer() if streamed else BodyFramer()

    def decoder(self, streamed: bool) -> Decoder:
        return TextStreamDecoder() if streamed else TextBodyDecoder()


class OllamaEmbeddings(Whole):
    """https://docs.ollama.com/api/embed: texts only, and no user."""

    def encode(self, provider: Provider, model: str, body: Mapping[str, Any]) -> Call:
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        if not all(isinstance(text, str) for text in texts):
            raise Unsupported("input", f"{provider.name} takes texts, not tokens.")
        sent = {"model": model, "input": texts}
        if body.get("dimensions") is not None:
            sent["dimensions"] = body["dimensions"]
        ignored = ("user",) if body.get("user") is not None else ()
        return Call(self.path, orjson.dumps(sent), streamed=False, ignored=ignored)


NATIVES: Mapping[tuple[str, str], Speech] = {
    ("openai_compatible", "completions"): Completions(),
    ("openai_compatible", "embeddings"): Whole("/embeddings"),
    ("openai_compatible", "moderations"): Whole("/moderations"),
    ("openai_compatible", "rerank"): Reranking("/rerank", RerankDecoder),
    ("openai_compatible", "images_generations"): Whole("/images/generations"),
    ("openai_compatible", "images_edits"): Whole("/images/edits", form=True),
    ("openai_compatible", "audio_transcriptions"): Whole("/audio/transcriptions", TranscriptDecoder, form=True),
    ("openai_compatible", "audio_translations"): Whole("/audio/translations", TranscriptDecoder, form=True),
    ("openai_compatible", "audio_speech"): SpokenText("/audio/speech", SpeechDecoder),
    ("anthropic", "messages"): NativeMessages(),
    ("ollama", "embeddings"): OllamaEmbeddings("/api/embed", OllamaEmbedDecoder),
    ("huggingface", "embeddings"): LocalEmbeddings(),
    ("huggingface", "rerank"): LocalReranking(),
}
"""By family and `Dialect.wire`."""
