"""The worker process: loads one model and serves requests in the order in which they came, until standard input ends.

JSON lines. In:  {"id": 1, "chat": {…}}, {"id": 2, "embed": {"texts": […], "dimensions": null}}, {"cancel": 1},
                 {"id": 3, "rank": {"query", "documents": […], "max_tokens_per_doc": null, "return_documents": null}}
Out, once:       {"loaded": {"device": …, "memory_bytes": …}} or {"failed": {"message", "status", "code", "param"}}
Out, by request: {"id": 1, "begun": 12} (tokens of the prompt), {"id": 1, "text": "…"}…,
                 {"id": 1, "ended": {"completion_tokens": 5, "finish_reason": "stop"}},
                 {"id": 2, "vectors": […], "tokens": 7},
                 {"id": 3, "results": [{"index": 0, "relevance_score": 0.5}, …], "tokens": 7}, or
                 {"id": 1, "failed": {…}}

A thread reads, so that a cancelled request stops at its next token.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import orjson

from gateway.upstreams.local.engine import Asked, EngineError, Sampling
from gateway.upstreams.local.found import Kind, kind_of
from gateway.upstreams.local.text import Stops

ENGINES: Mapping[str, str] = {
    "huggingface": "huggingface",
    "mlx": "mlx",
    "sentences": "sentences",
    "sentences_onnx": "sentences_onnx",
    "cross_encoder": "cross_encoder",
}
"""Engine -> the module of this package that has its class `Engine`."""
KINDS: Mapping[str, Kind] = {
    "huggingface": "text-generation",
    "mlx": "text-generation",
    "sentences": "text-embedding",
    "sentences_onnx": "text-embedding",
    "cross_encoder": "text-reranking",
}
"""Engine -> what its models are for."""
DOES: Mapping[Kind, tuple[str, str]] = {
    "text-generation": ("chats", "does not chat"),
    "text-embedding": ("makes embeddings", "makes no embeddings"),
    "text-reranking": ("ranks documents", "ranks no documents"),
}
"""What a model of a kind does, and what is said of one that does something else."""
READ = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
"""What is fetched of a repository: no pickles, no code."""

logger = logging.getLogger(__name__)


class Worker:
    """One engine and its requests. `write` sends a message to the server."""

    def __init__(self, write: Callable[[Mapping[str, Any]], None]) -> None:
        self._write = write
        self._asked: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._cancelled: set[int] = set()

    def listen(self, source: IO[bytes]) -> None:
        """Take requests until the server hangs up, and then end at once, whatever is going on."""
        for line in source:
            message = orjson.loads(line)
            if "cancel" in message:
                self._cancelled.add(message["cancel"])
            else:
                self._asked.put(message)
        os._exit(0)

    def serve(self, engine: Any) -> None:
        """For ever."""
        while True:
            message = self._asked.get()
            number = message["id"]
            if number not in self._cancelled:
                self._one(engine, number, message)
            self._cancelled.discard(number)

    def _one(self, engine: Any, number: int, message: Mapping[str, Any]) -> None:
        try:
            if "embed" in message:
                vectors, tokens = engine.embed(message["embed"]["texts"], message["embed"]["dimensions"])
                self._write({"id": number, "vectors": vectors, "tokens": tokens})
            elif "rank" in message:
                self._rank(engine, number, message["rank"])
            else:
                self._chat(engine, number, asked_of(message["chat"]))
        except EngineError as error:
            self._write({"id": number, "failed": error.said()})
        except Exception as error:  # one request's misfortune; the next may fare better
            logger.warning("a request failed in the model", exc_info=error)
            self._write({"id": number, "failed": EngineError(f"{type(error).__name__} in the model", 500).said()})

    def _rank(self, engine: Any, number: int, asked: Mapping[str, Any]) -> None:
        documents = asked["documents"]
        scores, tokens = engine.rank(asked["query"], documents, asked["max_tokens_per_doc"])
        results = [{"index": index, "relevance_score": score} for index, score in enumerate(scores)]
        if asked["return_documents"]:
            results = [each | {"document": {"text": documents[each["index"]]}} for each in results]
        self._write({"id": number, "results": results, "tokens": tokens})

    def _chat(self, engine: Any, number: int, asked: Asked) -> None:
        prompt = engine.prompt(asked.messages)
        limit = room(len(prompt), engine.context, asked.max_tokens)
        self._write({"id": number, "begun": len(prompt)})
        stops = Stops(asked.stop)

        def say(text: str) -> bool:
            if shown := stops.feed(text):
                self._write({"id": number, "text": shown})
            return not stops.stopped and number not in self._cancelled

        outcome = engine.generate(prompt, asked, limit, say)
        if rest := stops.end():
            self._write({"id": number, "text": rest})
        ended = {"completion_tokens": outcome.completion_tokens, "finish_reason": outcome.finish_reason}
        if stops.stopped:
            ended["finish_reason"] = "stop"
        self._write({"id": number, "ended": ended})


def room(prompt: int, context: int, asked: int | None) -> int:
    """How many tokens an answer may have. Raises `EngineError` where the prompt leaves none."""
    if prompt >= context:
        raise EngineError(
            f"The messages have {prompt} tokens; the model's context has {context}.", 400, "context_length_exceeded"
        )
    return min(context - prompt, asked or context)


def asked_of(value: Mapping[str, Any]) -> Asked:
    """A chat from its JSON (see `gateway.upstreams.local.request`)."""
    sampling = dict(value["sampling"])
    bias = {int(token): float(by) for token, by in (sampling.pop("logit_bias", None) or {}).items()}
    return Asked(
        value["messages"],
        Sampling(**sampling, logit_bias=bias),
        value.get("max_tokens"),
        tuple(value.get("stop") or ()),
    )


def directory_of(model: str, is_directory: bool) -> str:
    """Where the model's files are; those of a repository are fetched unless HF_HUB_OFFLINE is set.

    Raises `EngineError` where there is no such model.
    """
    if is_directory:
        return model
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return snapshot_download(model, allow_patterns=READ)
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, HFValidationError) as error:
        raise EngineError(
            f"The model {model!r} is not in the Hugging Face cache of this machine, and cannot be fetched.",
            404,
            "model_not_found",
            "model",
        ) from error


def check_kind(engine: str, directory: Path) -> None:
    """Raises `EngineError` for a model that does what this engine is not for: libraries load it, and it babbles."""
    kind, wanted = kind_of(directory), KINDS[engine]
    if kind == wanted or (kind is None and wanted != "text-reranking"):
        return
    does = DOES[kind][0] if kind is not None else "does something else"
    raise EngineError(f"The model {does}; it {DOES[wanted][1]}.", 400, "model_not_supported", "model")


def load(engine: str, model: str, is_directory: bool) -> Any:
    """The engine, with its model. Raises `EngineError`."""
    try:
        directory = directory_of(model, is_directory)
        check_kind(engine, Path(directory))
        return import_module(f"gateway.upstreams.local.{ENGINES[engine]}").Engine(directory)
    except EngineError:
        raise
    except Exception as error:
        logger.warning("a model could not be loaded", exc_info=error)
        raise EngineError(f"The model could not be loaded: {type(error).__name__}.", 500) from error


def main() -> None:
    """`ENGINE MODEL directory|repository`, requests on standard input, messages on what was standard output."""
    engine, model, kind = sys.argv[1:4]
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what libraries print is no message

    def write(message: Mapping[str, Any]) -> None:
        out.write(orjson.dumps(message) + b"\n")

    worker = Worker(write)
    threading.Thread(target=worker.listen, args=(sys.stdin.buffer,), daemon=True).start()
    try:
        loaded = load(engine, model, kind == "directory")
    except EngineError as error:
        write({"failed": error.said()})
        return
    write({"loaded": {"device": loaded.device, "memory_bytes": loaded.memory_bytes}})
    worker.serve(loaded)


if __name__ == "__main__":
    main()
