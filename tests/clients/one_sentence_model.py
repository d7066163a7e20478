"""A language model for a test: whatever it is asked, it says one sentence and stops.

A model with random weights would never stop, and one with real weights would have to be fetched. This one is a Llama of
one layer whose layer adds nothing: each token's embedding goes straight to the head, which knows what follows it. No
token comes twice in the sentence, so that is all there is to know, and it can be written down instead of learned.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models import llama
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SENTENCE = 'The log is "the product": everything else → a view of it 🎉.'
BEGIN, END = "<s>", "</s>"
TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}" + BEGIN
"""After all that was said the answer begins."""
WIDTH = 128
CERTAIN = 10.0
"""How much larger the logit of the right token is, about, than that of all others."""


def write_model(directory: Path, sentence: str = SENTENCE, positions: int = 512) -> None:
    """Write the model there, in the format of Hugging Face. Another sentence than `SENTENCE` is a single token."""
    directory.mkdir(parents=True)
    tokenizer = make_tokenizer(sentence)
    tokenizer.save(str(directory / "tokenizer.json"))
    arguments = llama.ModelArgs(
        model_type="llama", hidden_size=WIDTH, num_hidden_layers=1, intermediate_size=WIDTH, num_attention_heads=2,
        rms_norm_eps=1e-5, vocab_size=tokenizer.get_vocab_size(), tie_word_embeddings=False,
        max_position_embeddings=positions,
    )  # fmt: skip
    mx.save_safetensors(
        str(directory / "model.safetensors"), weights(tokenizer, arguments, sentence), metadata={"format": "mlx"}
    )
    config = {name: value for name, value in asdict(arguments).items() if value is not None}
    config |= {"eos_token_id": tokenizer.token_to_id(END), "architectures": ["LlamaForCausalLM"]}
    (directory / "config.json").write_text(json.dumps(config))
    words = {"bos_token": BEGIN, "eos_token": END, "chat_template": TEMPLATE}
    (directory / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **words})
    )


def make_tokenizer(sentence: str = SENTENCE) -> Tokenizer:
    """Bytes, and the sentence's words, or the sentence as one."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=sentence == SENTENCE)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000, min_frequency=1, special_tokens=[BEGIN, END], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator([sentence], trainer)
    return tokenizer


def weights(tokenizer: Tokenizer, arguments: llama.ModelArgs, sentence: str) -> dict[str, mx.array]:
    """Name -> value. Nearly orthogonal embeddings; a layer that adds nothing; a head that knows the next token."""
    answer = [tokenizer.token_to_id(BEGIN), *tokenizer.encode(sentence).ids, tokenizer.token_to_id(END)]
    assert len(set(answer)) == len(answer), "a token comes twice: what follows it would be a matter of chance"
    mx.random.seed(1)
    made = dict(tree_flatten(llama.Model(arguments).parameters()))
    embeddings = mx.random.normal((arguments.vocab_size, WIDTH))
    head = mx.zeros((arguments.vocab_size, WIDTH))
    for token, following in pairwise(answer):
        head[following] = embeddings[token] * (CERTAIN / WIDTH)
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        made[f"model.layers.0.{name}.weight"] *= 0
    return made | {"model.embed_tokens.weight": embeddings, "lm_head.weight": head}
