"""A chat completions body in the words of a worker (see `worker.asked_of`). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.wire.chat_request import Fields, Message, messages
from gateway.wire.values import Unsupported, WireError

SAMPLING = {
    name: name
    for name in (
        "temperature", "top_p", "top_k", "seed", "frequency_penalty", "presence_penalty", "repetition_penalty",
        "logit_bias",
    )
}  # fmt: skip
"""Fields that engines know by the same name."""
ROLES: Mapping[str, str] = {"developer": "system", "system": "system", "user": "user", "assistant": "assistant"}


def encode(provider: str, model: str, body: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """`{model, chat: {messages, sampling, max_tokens, stop}, unload}`, and what was ignored.

    Raises `Unsupported`, `WireError`.
    """
    fields = Fields(provider, body)
    sampling = fields.take_all(SAMPLING)
    _check(sampling)
    most, older = fields.take("max_completion_tokens"), fields.take("max_tokens")
    stop = fields.take("stop")
    chat = {
        "messages": [_message(message) for message in messages(body)],
        "sampling": sampling,
        "max_tokens": most if most is not None else older,
        "stop": [stop] if isinstance(stop, str) else stop or [],
    }
    for name in ("reasoning_effort", "verbosity"):
        if fields.take(name) is not None:
            fields.ignore(name)
    fields.settle()
    return {"model": model, "chat": chat, "unload": body.get("unload_after") is True}, fields.ignored


def _check(sampling: Mapping[str, Any]) -> None:
    """What engines would stumble over, and the body's own check does not look at. Raises `WireError`."""
    for name in ("seed", "top_k"):
        if type(sampling.get(name, 0)) is not int:
            raise WireError(f"{name} must be an integer.")
    if type(penalty := sampling.get("repetition_penalty", 1.0)) not in (int, float) or penalty <= 0:
        raise WireError("repetition_penalty must be a number above 0.")
    if not all(token.isdecimal() and len(token) < 10 for token in sampling.get("logit_bias", {})):
        raise WireError("logit_bias must be an object of token ids and numbers.")


def _message(message: Message) -> dict[str, str]:
    role = ROLES.get(message.role)
    if role is None:
        raise Unsupported(f"{message.where}.role", f"A model in this process knows no role {message.role!r}.")
    if unknown := message.unknown("name"):
        raise Unsupported(f"{message.where}.{unknown[0]}", f"A model in this process cannot take {unknown[0]!r}.")
    texts = []
    for where, part in message.parts():
        if part["type"] != "text":
            raise Unsupported(where, f"A model in this process takes text, no {part['type']}.")
        texts.append(part["text"])
    if message.role == "user" and not texts:
        raise WireError(f"{message.where} has no content.")
    return {"role": role, "content": "".join(texts)}
