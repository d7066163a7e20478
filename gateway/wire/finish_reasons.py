"""Why an answer ended, in OpenAI's words, whoever said it: the one table of the words of others.

OpenAI's: https://platform.openai.com/docs/api-reference/chat/object. Many servers that speak its format say here what
the model behind them said, in any case of letters. The frames in the log keep the word.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.wire.values import UpstreamError

_WORDS: Mapping[str, tuple[str, ...]] = {
    "stop": ("end_turn", "stop_sequence", "pause_turn", "eos_token", "complete"),
    "length": ("max_tokens", "model_length", "model_context_window_exceeded"),
    "tool_calls": ("tool_use", "tool_call"),
    "content_filter": (
        "refusal", "safety", "recitation", "blocklist", "prohibited_content", "spii", "image_safety", "sensitive",
        "content_filtered", "guardrail_intervened", "error_toxic",
    ),
    "function_call": (),
}  # fmt: skip
"""Of Anthropic, Google, Amazon, Cohere, Mistral, Zhipu and TGI."""
_OPENAIS: Mapping[str, str] = {word: own for own, words in _WORDS.items() for word in (own, *words)}

_FAILURES: Mapping[str, tuple[int, str]] = {
    "error": (502, "the provider ended with an error"),
    "abort": (502, "the provider gave the answer up"),
    "timeout": (504, "the provider took too long for the answer"),
    "network_error": (502, "the provider lost the model in the middle of its answer"),
    "insufficient_system_resource": (503, "the provider ran out of room for the answer"),
    "malformed_function_call": (502, "the provider's model made a call that cannot be read"),
}
"""Answers that came to nothing: vLLM and SGLang abort, Zhipu and Cohere lose the model, DeepSeek its room. The word ->
the status that it amounts to, and what to say."""


def finish_reason_of(reason: str) -> str:
    """OpenAI's word. One that nobody knows ends the answer as usual."""
    return _OPENAIS.get(reason) or _OPENAIS.get(reason.lower(), "stop")


def failure_of(reason: str) -> UpstreamError | None:
    """The error that this end amounts to; None for an answer."""
    if reason in _OPENAIS or (known := _FAILURES.get(reason.lower())) is None:
        return None
    status, message = known
    return UpstreamError(message, status, code=None if reason.lower() == "error" else reason.lower())
