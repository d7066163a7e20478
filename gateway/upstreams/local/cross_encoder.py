"""Reranking by sentence-transformers' cross-encoders: https://sbert.net/docs/package_reference/cross_encoder/cross_encoder.html"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sentence_transformers import CrossEncoder

from gateway.upstreams.local.engine import EngineError
from gateway.upstreams.local.huggingface import best_device, bytes_of, quiet


class Engine:
    """A model that reads a query and a document together, from a directory. Its scores are as its files have them:
    between 0 and 1 unless they name another activation."""

    def __init__(self, directory: str) -> None:
        quiet()
        self.device = best_device()
        made: Any = CrossEncoder(
            directory, device=self.device, local_files_only=True, model_kwargs={"use_safetensors": True}
        )
        self._model = made
        self.memory_bytes = bytes_of(made)

    def rank(self, query: str, documents: Sequence[str], tokens_per_document: int | None) -> tuple[list[float], int]:
        texts = [self._cut(text, tokens_per_document) for text in documents] if tokens_per_document else list(documents)
        scores = self._model.predict([(query, text) for text in texts], show_progress_bar=False)
        longest = self._model.max_seq_length
        read = self._model.tokenizer([query] * len(texts), texts, truncation=True, max_length=longest)
        return scores.tolist(), sum(len(ids) for ids in read["input_ids"])

    def _cut(self, text: str, tokens: int) -> str:
        """The text's beginning, so many tokens long."""
        tokenizer = self._model.tokenizer
        if not tokenizer.is_fast:
            raise EngineError("The model's tokenizer cannot cut texts.", param="max_tokens_per_doc")
        places = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return text if len(places) <= tokens else text[: places[tokens - 1][1]]
