"""What a worker asks of an engine, and the values that pass between server and worker as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

DEFAULT_CONTEXT = 4096
"""Tokens, for a model that does not say how long its context is."""


class EngineError(Exception):
    """The request or the model is no good. `status` is the HTTP status it amounts to, `code` OpenAI's word for it."""

    def __init__(self, message: str, status: int = 400, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message, self.status, self.code, self.param = message, status, code, param

    def said(self) -> dict[str, Any]:
        """As JSON."""
        return {"message": self.message, "status": self.status, "code": self.code, "param": self.param}


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen; None: as the model's own configuration has it. `logit_bias`: token id -> bias."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)

    @property
    def draws(self) -> bool | None:
        """Whether chance has a part in it; None: as the model has it."""
        if self.temperature is not None:
            return self.temperature > 0
        return True if self.top_p is not None or self.top_k is not None else None


@dataclass(frozen=True, slots=True)
class Asked:
    """One chat. `max_tokens` None: as many as the context has room for."""

    messages: Sequence[Mapping[str, Any]]
    sampling: Sampling = Sampling()
    max_tokens: int | None = None
    stop: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a generation ended. `finish_reason`: `stop` or `length`."""

    completion_tokens: int
    finish_reason: str


Say = Callable[[str], bool]
"""Takes the next piece of text, which may be empty; False once the engine is to stop."""


class ChatEngine(Protocol):
    """A loaded language model."""

    device: str
    memory_bytes: int
    context: int
    """How many tokens prompt and answer may have together."""

    def prompt(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """The conversation as tokens, by the model's chat template. Raises `EngineError`."""

    def generate(self, prompt: list[int], asked: Asked, limit: int, say: Say) -> Outcome:
        """At most `limit` tokens; returns at the model's own end, or soon after `say` gave False."""


class EmbeddingEngine(Protocol):
    """A loaded embedding model."""

    device: str
    memory_bytes: int

    def embed(self, texts: Sequence[str], dimensions: int | None = None) -> tuple[list[list[float]], int]:
        """A vector for each text, and how many tokens all had. `dimensions` keeps so many numbers of each, at length 1.
        Raises `EngineError`."""


class RerankingEngine(Protocol):
    """A loaded model that says how relevant documents are."""

    device: str
    memory_bytes: int

    def rank(self, query: str, documents: Sequence[str], tokens_per_document: int | None) -> tuple[list[float], int]:
        """A score for each document, higher ones being more relevant, and how many tokens all pairs had. Of each
        document at most `tokens_per_document` are read. Raises `EngineError`."""


def templated(tokenizer: Any, messages: Sequence[Mapping[str, Any]]) -> list[int]:
    """The conversation by a Hugging Face tokenizer's template; one line a message where it has none.

    Raises `EngineError` where the template refuses the conversation.
    """
    if not tokenizer.chat_template:
        lines = [f"{message['role']}: {message['content']}\n" for message in messages]
        return list(tokenizer.encode("".join([*lines, "assistant:"])))
    from jinja2 import TemplateError

    try:
        text = tokenizer.apply_chat_template([dict(m) for m in messages], tokenize=False, add_generation_prompt=True)
    except TemplateError as error:
        raise EngineError(f"The model's chat template refuses these messages: {error}", param="messages") from error
    return list(tokenizer.encode(text, add_special_tokens=False))
