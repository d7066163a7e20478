"""A cross-encoder for a test: the larger the share of a pair's words that are `RELEVANT`, the higher its score.

It is a BERT of one layer, written down instead of learned: its attention looks at all words alike and hands on what
they are, its last step asks for what relevant words have and the others have not.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

RELEVANT = ("panda", "bear")
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *RELEVANT)
WIDTH = 4


def write_scorer(directory: Path, labels: int = 1) -> None:
    """Write the model there, in the format of Hugging Face. With several labels it is a classifier, and cannot rank."""
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=1, intermediate_size=WIDTH,
        max_position_embeddings=64, num_labels=labels,
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.bert.embeddings.word_embeddings.weight.copy_(
            torch.tensor([[1.0, -1, 0, 0] if word in RELEVANT else [0.0, 0, 1, -1] for word in WORDS])
        )
        layer = model.bert.encoder.layer[0]
        for norm in (model.bert.embeddings.LayerNorm, layer.attention.output.LayerNorm, layer.output.LayerNorm):
            norm.weight.fill_(1)
        for same in (layer.attention.self.value, layer.attention.output.dense, model.bert.pooler.dense):
            same.weight.copy_(torch.eye(WIDTH))
        model.classifier.weight[0].copy_(torch.tensor([4.0, -4, 0, 0]))
    model.save_pretrained(directory)
    made = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]  # the stubs know no setter
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=made, **special).save_pretrained(directory)


def write_embedder(directory: Path) -> None:
    """The same BERT as an embedding model, by the mean of its words."""
    write_scorer(directory)
    parts = [(0, "", "Transformer"), (1, "1_Pooling", "Pooling")]
    modules = [
        {"idx": at, "name": str(at), "path": path, "type": f"sentence_transformers.models.{name}"}
        for at, path, name in parts
    ]
    (directory / "modules.json").write_text(json.dumps(modules))
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True})
    )


def pickle_weights(directory: Path) -> None:
    """Put its weights into the older format, which can hold code."""
    weights = directory / "model.safetensors"
    torch.save(load_file(weights), directory / "pytorch_model.bin")
    weights.unlink()
