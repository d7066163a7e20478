"""Chat by transformers, on the best device there is: https://huggingface.co/docs/transformers/main_classes/text_generation

Only weights in safetensors are read, and no code that comes with a model is run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.utils import logging as library_logging

from gateway.upstreams.local.engine import DEFAULT_CONTEXT, Asked, Outcome, Sampling, Say, templated
from gateway.upstreams.local.text import Detokenizer


def best_device() -> str:
    """`cuda`, `mps` or `cpu`."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def quiet() -> None:
    """No progress bars and no hints on standard error."""
    logging: Any = library_logging  # it has no annotations
    logging.disable_progress_bar()
    logging.set_verbosity_error()


def bytes_of(model: Any) -> int:
    """What a model's weights take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), *model.buffers()))


class Engine:
    """A causal language model from a directory in Hugging Face's format."""

    def __init__(self, directory: str) -> None:
        quiet()
        self.device = best_device()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        model: Any = AutoModelForCausalLM.from_pretrained(
            directory, dtype="auto", use_safetensors=True, local_files_only=True
        )
        self._model = model.to(self.device).eval()
        self.memory_bytes = bytes_of(self._model)
        self.context = getattr(model.config, "max_position_embeddings", None) or DEFAULT_CONTEXT

    def prompt(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        return templated(self._tokenizer, messages)

    def generate(self, prompt: list[int], asked: Asked, limit: int, say: Say) -> Outcome:
        sampling = asked.sampling
        if sampling.seed is None:
            torch.seed()
        else:
            torch.manual_seed(sampling.seed % 2**63)
        stream = _Stream(self._tokenizer, say)
        tokens = torch.tensor([prompt], device=self.device)
        with torch.inference_mode():
            self._model.generate(
                tokens,
                attention_mask=torch.ones_like(tokens),
                generation_config=self._config(sampling, limit),
                logits_processor=LogitsProcessorList(_penalties(sampling, len(prompt))),
                stopping_criteria=StoppingCriteriaList([stream]),
                streamer=stream,
            )
        ended = stream.last in self._ends() or stream.told
        return Outcome(stream.count, "stop" if ended else "length")

    def _config(self, sampling: Sampling, limit: int) -> GenerationConfig:
        """The model's own configuration, with what the request says of it."""
        said = {
            "max_new_tokens": limit,
            "do_sample": sampling.draws,
            "temperature": sampling.temperature if sampling.draws else None,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "repetition_penalty": sampling.repetition_penalty,
            "sequence_bias": {(token,): float(bias) for token, bias in sampling.logit_bias.items()} or None,
        }
        config = self._model.generation_config.to_dict() | {k: v for k, v in said.items() if v is not None}
        config.pop("max_length", None)
        if config.get("pad_token_id") is None:
            config["pad_token_id"] = min(self._ends(), default=0)
        made: GenerationConfig = GenerationConfig(**config)  # type: ignore[no-untyped-call]  # it has no annotations
        return made

    def _ends(self) -> set[int]:
        """The tokens that end an answer."""
        given = self._model.generation_config.eos_token_id
        ends = given if isinstance(given, list) else [given, self._tokenizer.eos_token_id]
        return {token for token in ends if token is not None}


class _Stream(StoppingCriteria):
    """Hears each token, says its text, and stops the generation once nobody listens (`told`)."""

    def __init__(self, tokenizer: Any, say: Say) -> None:
        self._text = Detokenizer(lambda ids: str(tokenizer.decode(ids, skip_special_tokens=True)))
        self._say = say
        self._prompt = True
        self.count, self.last, self.told = 0, -1, False

    def put(self, tokens: torch.Tensor) -> None:
        """The prompt first, then each token."""
        if self._prompt:
            self._prompt = False
            return
        for token in tokens.flatten().tolist():
            self.count, self.last = self.count + 1, token
            self.told = not self._say(self._text.add(token)) or self.told

    def end(self) -> None:
        """No more comes."""
        self._say(self._text.end())

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), self.told, device=input_ids.device, dtype=torch.bool)


class _Repetition(LogitsProcessor):
    """OpenAI's presence and frequency penalties, over the tokens of the answer:
    https://platform.openai.com/docs/advanced-usage#frequency-and-presence-penalties"""

    def __init__(self, frequency: float, presence: float, prompt: int) -> None:
        self._frequency, self._presence, self._prompt = frequency, presence, prompt

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        counts = torch.zeros_like(scores)
        answer = input_ids[:, self._prompt :]
        counts.scatter_add_(1, answer, torch.ones_like(answer, dtype=scores.dtype))
        return scores - self._frequency * counts - self._presence * (counts > 0)


def _penalties(sampling: Sampling, prompt: int) -> list[LogitsProcessor]:
    if not sampling.frequency_penalty and not sampling.presence_penalty:
        return []
    return [_Repetition(sampling.frequency_penalty, sampling.presence_penalty, prompt)]
