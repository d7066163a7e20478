"""Answers that are no chat, read: one body, whose inside is its dialect's affair. What is read of it here is the usage.

Formats: https://platform.openai.com/docs/api-reference for embeddings, images, audio and moderations;
https://docs.ollama.com/api/embed; `gateway.wire.rerank` names those for reranking.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from eventstore.catalogue.values import Usage
from gateway.wire.fastlane import loads_lenient
from gateway.wire.openai_chat import error_of, usage_of
from gateway.wire.values import Body, Meta, Piece, WireError, count
from gateway.wire.whole_body import WholeDecoder


class RawDecoder(WholeDecoder):
    """Bytes of any kind, as speech was read at first."""

    name = "whole_raw.1"
    __slots__ = ()

    def body(self, frame: bytes) -> list[Piece]:
        self._finished = True
        return [Body(frame)]


class SpeechDecoder(WholeDecoder):
    """Sound of any kind. A page or an object in its place is an error of the provider's, whatever its status said."""

    name = "speech.1"
    __slots__ = ()

    def body(self, frame: bytes) -> list[Piece]:
        self._finished = True
        start = frame[:64].lstrip().lower()
        if start.startswith((b"<!doctype", b"<html", b"<?xml")):
            raise WireError("the upstream answered with a page in place of sound")
        if start.startswith(b"{") and (value := _object_if(frame)) is not None:
            return [
                Meta(error=error_of(value.get("error") or "the upstream answered with JSON in place of sound", 502))
            ]
        return [Body(frame)]


class JsonDecoder(WholeDecoder):
    """A JSON object in OpenAI's words."""

    name = "whole_json.1"
    __slots__ = ()

    def body(self, frame: bytes) -> list[Piece]:
        value = object_of(frame)
        self._finished = True
        if value.get("error"):
            return [Meta(error=error_of(value["error"], 502))]
        meta = self._meta(value)
        meta.model = model if isinstance(model := value.get("model"), str) else None
        return [Body(frame), meta]

    def _meta(self, value: Mapping[str, Any]) -> Meta:
        """What was used, in the words of who says it."""
        raw = value.get("usage")
        return Meta(usage=usage_of_work(raw), usage_raw=raw) if isinstance(raw, dict) else Meta()


class TranscriptDecoder(JsonDecoder):
    """A transcript: JSON, or plain text where that was asked for."""

    name = "transcript.1"
    __slots__ = ()

    def body(self, frame: bytes) -> list[Piece]:
        if frame.lstrip().startswith(b"{"):
            return super().body(frame)
        self._finished = True
        return [Body(frame)]


class OllamaEmbedDecoder(WholeDecoder):
    """Ollama's vectors, put into OpenAI's words."""

    name = "ollama_embed.1"
    __slots__ = ()

    def body(self, frame: bytes) -> list[Piece]:
        value = object_of(frame)
        vectors = value.get("embeddings")
        if not isinstance(vectors, list):
            raise WireError("the upstream's answer has no embeddings")
        self._finished = True
        usage = Usage(input_tokens=count(value.get("prompt_eval_count")))
        data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
        counts = {"prompt_tokens": usage.input_tokens, "total_tokens": usage.input_tokens}
        body = orjson.dumps({"object": "list", "data": data, "usage": counts})
        return [Body(body), Meta(usage=usage, usage_raw=counts)]


class RerankDecoder(JsonDecoder):
    """Documents' relevance. Usage is Jina's, or what Cohere has in `meta`."""

    name = "rerank.1"
    __slots__ = ()

    def _meta(self, value: Mapping[str, Any]) -> Meta:
        raw = next((value[name] for name in ("usage", "meta") if isinstance(value.get(name), dict)), None)
        if raw is None:
            return Meta()
        cost = str(raw["cost"]) if type(raw.get("cost")) in (int, float) else None
        return Meta(usage=usage_of_ranking(raw), usage_raw=raw, cost_reported=cost)


def _object_if(frame: bytes) -> dict[str, Any] | None:
    """The object that a body is, if it is one: sound can begin with any byte."""
    try:
        return object_of(frame)
    except WireError:
        return None


def object_of(frame: bytes) -> dict[str, Any]:
    """A body that must be a JSON object. Raises `WireError`."""
    value = loads_lenient(frame)
    if not isinstance(value, dict):
        raise WireError("the upstream's answer is not a JSON object")
    return value


def usage_of_work(raw: Mapping[str, Any]) -> Usage | None:
    """The usage of images and audio, which say input and output, or of the others, which say prompt. None for one that
    counts no tokens, such as seconds of audio."""
    if "input_tokens" not in raw:
        return usage_of(raw) if "prompt_tokens" in raw else None
    details = raw.get("input_token_details") or raw.get("input_tokens_details")
    audio = details.get("audio_tokens") if isinstance(details, dict) else None
    return Usage(
        input_tokens=count(raw.get("input_tokens")),
        output_tokens=count(raw.get("output_tokens")),
        input_audio_tokens=count(audio),
    )


def usage_of_ranking(raw: Mapping[str, Any]) -> Usage | None:
    """The usage of a reranking: tokens of the query and the documents, which some only give as a total. None for one
    that counts searches."""
    for counted in (raw, raw.get("tokens"), raw.get("billed_units")):
        if not isinstance(counted, dict):
            continue
        if (usage := usage_of_work(counted)) is not None:
            return usage
        if "total_tokens" in counted:
            return Usage(input_tokens=count(counted["total_tokens"]))
    return None
