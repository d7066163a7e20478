"""Chat by mlx-lm: https://github.com/ml-explore/mlx-lm"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm import load, stream_generate
from mlx_lm.sample_utils import make_logits_processors, make_sampler

from gateway.upstreams.local.engine import DEFAULT_CONTEXT, Asked, Outcome, Sampling, Say, templated


class Engine:
    """A language model from a directory that mlx-lm understands."""

    def __init__(self, directory: str) -> None:
        self._model, self._tokenizer, config = load(directory, return_config=True)  # type: ignore[misc]  # three, as asked
        self.device = "gpu" if mx.default_device().type == mx.DeviceType.gpu else "cpu"
        weights: Any = tree_flatten(self._model.parameters())
        self.memory_bytes = sum(value.nbytes for _, value in weights)
        self.context = config.get("max_position_embeddings") or DEFAULT_CONTEXT

    def prompt(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        return templated(self._tokenizer, messages)

    def generate(self, prompt: list[int], asked: Asked, limit: int, say: Say) -> Outcome:
        if asked.sampling.seed is not None:
            mx.random.seed(asked.sampling.seed % 2**63)
        tokens, reason = 0, "length"
        for step in stream_generate(
            self._model,
            self._tokenizer,
            prompt,
            max_tokens=limit,
            sampler=_sampler(asked.sampling),
            logits_processors=_processors(asked.sampling),
        ):
            tokens, reason = step.generation_tokens, step.finish_reason or reason
            if not say(step.text):
                return Outcome(tokens, "stop")
        return Outcome(tokens, reason)


def _sampler(sampling: Sampling) -> Callable[[mx.array], mx.array]:
    temperature = sampling.temperature if sampling.temperature is not None else float(bool(sampling.draws))
    made: Callable[[mx.array], mx.array] = make_sampler(
        temp=temperature, top_p=sampling.top_p or 0.0, top_k=sampling.top_k or 0
    )
    return made


def _processors(sampling: Sampling) -> list[Callable[[mx.array, mx.array], mx.array]]:
    made: list[Callable[[mx.array, mx.array], mx.array]] = make_logits_processors(
        dict(sampling.logit_bias) or None,
        sampling.repetition_penalty,
        presence_penalty=sampling.presence_penalty or None,
        frequency_penalty=sampling.frequency_penalty or None,
    )
    return made
