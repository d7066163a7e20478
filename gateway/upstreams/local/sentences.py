"""Embeddings by sentence-transformers: https://sbert.net"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from sentence_transformers import SentenceTransformer

from gateway.upstreams.local.engine import EngineError
from gateway.upstreams.local.huggingface import best_device, bytes_of, quiet


class Engine:
    """An embedding model from a directory."""

    backend: ClassVar[Literal["torch", "onnx"]] = "torch"

    def __init__(self, directory: str) -> None:
        quiet()
        self.device = best_device()
        weights = {"use_safetensors": True} if self.backend == "torch" else None
        made: Any = SentenceTransformer(
            directory, device=self.device, backend=self.backend, local_files_only=True, model_kwargs=weights
        )
        self._model = made
        self.memory_bytes = bytes_of(made) or _bytes_on_disk(directory)

    def embed(self, texts: Sequence[str], dimensions: int | None = None) -> tuple[list[list[float]], int]:
        vectors = self._model.encode(list(texts), convert_to_numpy=True, show_progress_bar=False)
        if dimensions is not None:
            vectors = _shortened(vectors, dimensions)
        read = self._model.tokenizer(list(texts), truncation=True, max_length=self._model.max_seq_length)
        return vectors.tolist(), sum(len(ids) for ids in read["input_ids"])


def _bytes_on_disk(directory: str) -> int:
    """The weights' length, for a backend that does not show what it holds."""
    return sum(file.stat().st_size for file in Path(directory).rglob("*.safetensors"))


def _shortened(vectors: Any, dimensions: int) -> Any:
    """The first numbers of each vector, brought to length 1 again, as OpenAI does it."""
    width = vectors.shape[1]
    if dimensions > width:
        raise EngineError(f"The model's vectors have {width} dimensions, not {dimensions}.", param="dimensions")
    kept = vectors[:, :dimensions]
    lengths = (kept**2).sum(axis=1, keepdims=True) ** 0.5
    return kept / lengths.clip(min=1e-12)
