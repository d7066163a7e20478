"""The same embeddings by ONNX Runtime, which optimum brings along: https://sbert.net/docs/sentence_transformer/usage/efficiency.html

A model without an ONNX file is exported when it is loaded.
"""

from __future__ import annotations

from gateway.upstreams.local import sentences


class Engine(sentences.Engine):
    """An embedding model from a directory. Its vectors are those of torch within 1e-4."""

    backend = "onnx"
