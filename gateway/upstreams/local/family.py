"""The families of models that run here. One instance a library; chat speaks OpenAI's format, as the demo does."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from eventstore.value import value
from gateway.errors import NotOffered
from gateway.upstreams.chat_spoken import OwnAnswers
from gateway.upstreams.local import found
from gateway.upstreams.local.answers import Ranking, RefusedAnswer, StreamedChat, Vectors, WholeChat
from gateway.upstreams.local.host import Host
from gateway.upstreams.local.process import Refused
from gateway.upstreams.local.request import encode
from gateway.upstreams.upstream import Answer, Call, ModelInfo, Provider, UpstreamFailure
from gateway.wire.chat_request import Fields
from gateway.wire.rerank import texts_of
from gateway.wire.values import Decoder, Framer, Unsupported
from gateway.wire.whole_answers import JsonDecoder, RerankDecoder
from gateway.wire.whole_body import BodyFramer


@value
class Library:
    """What runs a family's models. `engine` chats, `packages` must be there for it, `extra` brings them; `for_mlx`:
    it lists what mlx wrote; `embeds`: it lists models that embed or rank too."""

    engine: str
    packages: tuple[str, ...]
    extra: str
    for_mlx: bool = False
    embeds: bool = False

    def check(self) -> None:
        """Raises `NotOffered` where it is not installed."""
        if not found.installed(self.packages):
            raise NotOffered(self.missing(), param="model")

    def missing(self) -> str:
        """What to do about it."""
        return (
            f"Models in this process need packages that are not installed here: "
            f"pip install 'abstractcore-server[{self.extra}]' where the server runs."
        )


TRANSFORMERS = Library("huggingface", ("torch", "transformers"), "huggingface", embeds=True)
SENTENCES = Library("sentences", ("torch", "sentence_transformers"), "huggingface")
SENTENCES_ONNX = Library("sentences_onnx", ("torch", "sentence_transformers", "optimum", "onnxruntime"), "onnx")
EMBEDDING = {"torch": SENTENCES, "onnx": SENTENCES_ONNX}
"""By the setting `embedding_backend`."""
CROSS_ENCODER = Library("cross_encoder", ("torch", "sentence_transformers"), "huggingface")
MLX = Library("mlx", ("mlx", "mlx_lm"), "mlx", for_mlx=True)


class LocalModels(OwnAnswers):
    """A family. `root`: the directory whose subdirectories may be named as models; `embedding` makes the vectors."""

    def __init__(
        self, family: str, library: Library, host: Host, root: Path | None, embedding: Library = SENTENCES
    ) -> None:
        self.family, self._embedding = family, embedding
        self._library, self._host, self._root = library, host, root

    def encode(self, provider: Provider, model: str, body: Mapping[str, Any]) -> Call:
        self._library.check()
        asked, ignored = encode(provider.name, model, body)
        return Call("/chat", orjson.dumps(asked), body.get("stream") is True, ignored=ignored)

    async def open(self, provider: Provider, call: Call, api_key: str | None) -> Answer:
        asked = orjson.loads(call.body)
        place = await asyncio.to_thread(found.place_of, asked["model"], self._root)
        if place is None:
            return RefusedAnswer(_no_model(asked["model"]))
        if "embed" in asked and not found.installed(self._embedding.packages):
            return RefusedAnswer(_not_here(self._embedding))
        try:
            return await self._answer(provider.name, asked, place, call.streamed)
        except Refused as refused:
            return RefusedAnswer(refused.error)

    async def _answer(self, provider: str, asked: Mapping[str, Any], place: found.Place, streamed: bool) -> Answer:
        """Load the model where it is not, hand it the request, and wait until it has begun. Raises `Refused`."""
        name = next(name for name in ("embed", "rank", "chat") if name in asked)
        engine = {"embed": self._embedding, "rank": CROSS_ENCODER, "chat": self._library}[name].engine
        slot, process = await self._host.acquire(provider, engine, asked["model"], place)
        inbox = process.ask({name: asked[name]})

        def end() -> None:
            process.drop(inbox)
            self._host.release(slot, asked["unload"])

        try:
            begun = await inbox.take()
        except BaseException:
            end()
            raise
        if name == "chat":
            return (StreamedChat if streamed else WholeChat)(inbox, begun, end)
        return (Vectors if name == "embed" else Ranking)(inbox, begun, end)

    async def models(self, provider: Provider, api_key: str | None) -> list[ModelInfo]:
        if not found.installed(self._library.packages):
            raise UpstreamFailure("connect_failed", self._library.missing())
        listed = await asyncio.to_thread(found.models, self._root)
        return [each.info for each in listed if self._runs(each)]

    def _runs(self, model: found.Found) -> bool:
        if model.info.type != "text-generation":
            return self._library.embeds
        return model.for_mlx == self._library.for_mlx


class LocalEmbeddings:
    """OpenAI's embeddings, by sentence-transformers: texts only."""

    def encode(self, provider: Provider, model: str, body: Mapping[str, Any]) -> Call:
        SENTENCES.check()
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        if not all(isinstance(text, str) for text in texts):
            raise Unsupported("input", f"{provider.name} takes texts, not tokens.")
        asked = {
            "model": model,
            "embed": {"texts": texts, "dimensions": body.get("dimensions")},
            "unload": body.get("unload_after") is True,
        }
        ignored = ("user",) if body.get("user") is not None else ()
        return Call("/embeddings", orjson.dumps(asked), streamed=False, ignored=ignored)

    def framer(self, streamed: bool) -> Framer:
        return BodyFramer()

    def decoder(self, streamed: bool) -> Decoder:
        return JsonDecoder()


class LocalReranking:
    """Jina's reranking, by cross-encoders."""

    def encode(self, provider: Provider, model: str, body: Mapping[str, Any]) -> Call:
        CROSS_ENCODER.check()
        fields = Fields(provider.name, body)
        rank = {name: fields.take(name) for name in ("query", "documents", "max_tokens_per_doc", "return_documents")}
        rank["documents"] = texts_of(rank["documents"])
        fields.take("top_n")  # the renderer cuts
        fields.settle()
        asked = {"model": model, "rank": rank, "unload": body.get("unload_after") is True}
        return Call("/rerank", orjson.dumps(asked), streamed=False, ignored=fields.ignored)

    def framer(self, streamed: bool) -> Framer:
        return BodyFramer()

    def decoder(self, streamed: bool) -> Decoder:
        return RerankDecoder()


def _not_here(library: Library) -> dict[str, Any]:
    return {"message": library.missing(), "status": 501, "code": "not_implemented", "param": "model"}


def _no_model(model: str) -> dict[str, Any]:
    message = (
        f"There is no model {model!r} here: it is neither a Hugging Face repository nor in ABSTRACTCORE_MODELS_ROOT."
    )
    return {"message": message, "status": 404, "code": "model_not_found", "param": "model"}
